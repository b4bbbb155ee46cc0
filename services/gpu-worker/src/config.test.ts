import { describe, expect, test } from 'vitest'
import { readConfig } from './config.ts'

describe('readConfig', () => {
  test('needs nothing to be set', () => {
    expect(readConfig({})).toMatchObject({
      model: 'tiny-scenes',
      device: 'auto',
      concurrency: 8,
      maxPixels: undefined,
      jobLockDurationMs: 30_000,
      shutdownGraceMs: 30_000,
      metricsPort: undefined,
      storage: { kind: 'local', dir: 'data/images' },
    })
  })

  test('treats an empty variable as one that is not set, and MODEL_PATH as MODEL', () => {
    expect(readConfig({ WORKER_CONCURRENCY: '', MODEL: ' ', MODEL_PATH: '/srv/m' })).toMatchObject({ concurrency: 8, model: '/srv/m' })
  })

  test('accepts 0 where 0 has a meaning', () => {
    expect(readConfig({ SHUTDOWN_GRACE: '0', PNG_COMPRESSION_LEVEL: '0' })).toMatchObject({ shutdownGraceMs: 0, pngCompressionLevel: 0 })
  })

  test('reports every wrong variable at once', () => {
    const wrong = {
      REDIS_URL: 'http://x',
      DEVICE: 'gpu',
      WORKER_CONCURRENCY: '0',
      MAX_PIXELS: 'many',
      PNG_COMPRESSION_LEVEL: '10',
      JOB_LOCK_DURATION: '0',
      ENGINE_STEP_TIMEOUT: '-1',
      ENGINE_MEMORY_LIMIT: '0',
      METRICS_PORT: '65536',
      LOG_LEVEL: 'loud',
      OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317',
      MODEL: 'a',
      MODEL_PATH: 'b',
      STORAGE: 's3',
    }
    let message = ''
    try {
      readConfig(wrong)
    } catch (error) {
      message = (error as Error).message
    }
    const named = message.split('\n').map((line) => line.split(':')[0])
    const expected = [...Object.keys(wrong).filter((name) => name !== 'STORAGE' && name !== 'MODEL'), 'S3_BUCKET']
    expect(new Set(named)).toEqual(new Set(expected))
  })

  test('quotes a value that should be a number as it was written', () => {
    expect(() => readConfig({ WORKER_CONCURRENCY: 'many' })).toThrow('WORKER_CONCURRENCY: Invalid input: expected number, received "many"')
  })
})
