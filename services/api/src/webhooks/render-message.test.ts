import { expect, test } from 'vitest'
import { maxWebhookBodyBytes } from '@easel/contract'
import type { Job } from '@easel/contract'
import { renderAs } from './render-message.ts'
import { toMessage } from './to-message.ts'

const id = '0198c0de-0000-7000-8000-000000000000'
const job: Job = {
  id,
  status: 'failed',
  created_at: '2026-11-24T12:00:00.000Z',
  started_at: '2026-11-24T12:00:05.000Z',
  completed_at: '2026-11-24T12:00:09.000Z',
  input: {
    model: 'tiny-scenes',
    prompt: 'é'.repeat(20_000),
    negative_prompt: '',
    width: 128,
    height: 128,
    num_inference_steps: 20,
    guidance_scale: 4,
    num_images_per_prompt: 1,
    seed: 7,
    max_sequence_length: 20,
    output_format: 'png',
  },
  input_truncated: false,
  progress: { step: 8, total: 20 },
  queue_position: null,
  notice: null,
  eta_seconds: null,
  output: null,
  error: { code: 'timeout', message: 'The job ran longer than its timeout.', retryable: true },
  timings: null,
  receipt: null,
  replay: null,
}

function bodyOf(dialect: string | undefined, of: Job = job): Record<string, unknown> {
  const { body = '' } = toMessage('completed', of, 0, renderAs(dialect, 'http://here')) ?? {}
  expect(Buffer.byteLength(body)).toBeLessThanOrEqual(maxWebhookBodyBytes)
  return JSON.parse(body) as Record<string, unknown>
}

test('a job made through Replicate’s dialect ends with a message that is its prediction, short enough to be sent', () => {
  expect(bodyOf('replicate')).toMatchObject({
    id,
    status: 'failed',
    error: job.error?.message,
    metrics: { predict_time: 4, total_time: 9 },
    logs: 'Using seed: 7\n 40%|████      | 8/20',
  })
})

test('a job made through fal’s dialect ends with a message that is OK with the result, or ERROR with a reason', () => {
  const ids = { request_id: id, gateway_request_id: id, status: 'ERROR' }
  expect(bodyOf('fal')).toEqual({ ...ids, error: job.error?.message, payload: { detail: job.error?.message } })
  expect(bodyOf('fal', { ...job, status: 'canceled', error: null })).toMatchObject({ ...ids, error: 'The request was canceled.' })
  const images = [{ url: 'http://here/images/a-0.png', width: 1, height: 2, seed: 7, sha256: '', content_type: 'image/png' }]
  expect(bodyOf('fal', { ...job, status: 'succeeded', error: null, output: { images } })).toMatchObject({
    status: 'OK',
    payload: { seed: 7, timings: { inference: 4 }, images: [{ url: images[0]?.url, file_name: 'a-0.png', width: 1, height: 2 }] },
  })
})

test('any other job has this service’s own message', () => {
  for (const dialect of ['openai', undefined] as const) expect(bodyOf(dialect)).toMatchObject({ type: 'job.completed', data: { id } })
})
