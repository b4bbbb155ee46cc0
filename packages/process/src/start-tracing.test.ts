import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { expect, test } from 'vitest'
import { noTracing } from './tracing.ts'
import { startTracing } from './start-tracing.ts'

test('a span returns the result or throws the error of what it wraps, whether there is tracing or not', async () => {
  // Nothing listens there. Spans that cannot be sent must not get in the way, not even at the end.
  const tracing = startTracing({ endpoint: 'http://127.0.0.1:9', service: 'test' })
  for (const each of [tracing, noTracing]) {
    expect(
      await each.span('a', { kind: 'server', attributes: { n: 1 } }, async (open) => {
        open.rename('b')
        open.set({ m: 2 })
        return 3
      }),
    ).toBe(3)
    await expect(each.span('a', {}, async () => Promise.reject(new TypeError('no')))).rejects.toThrow(TypeError)
  }
  tracing.record('past', Date.now() - 10, Date.now())
  await tracing.close()
})

test('what the services import of this package loads no tracing library', async () => {
  const script = `
    import { registerHooks } from 'node:module'
    registerHooks({ load: (url, context, next) => (console.log(url), next(url, context)) })
    await import(${JSON.stringify(new URL('index.ts', import.meta.url).href)})`
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '--eval', script])
  const loaded = stdout.trim().split('\n')
  expect(loaded).toContain(new URL('tracing.ts', import.meta.url).href)
  expect(loaded.filter((url) => /opentelemetry|otel|start-tracing|pino-pretty/.test(url))).toEqual([])
})
