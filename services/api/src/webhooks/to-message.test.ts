import { describe, expect, test } from 'vitest'
import { webhookBodySchema } from '@easel/contract'
import type { Job, WebhookBody } from '@easel/contract'
import { toMessage } from './to-message.ts'

const now = Date.parse('2026-11-24T12:00:30.000Z')
const input = {
  model: 'tiny-scenes',
  prompt: 'a red boat',
  negative_prompt: '',
  width: 128,
  height: 128,
  num_inference_steps: 20,
  guidance_scale: 4,
  num_images_per_prompt: 1,
  seed: 7,
  max_sequence_length: 20,
  output_format: 'png' as const,
}
const image = {
  url: 'http://localhost/images/x-0.png',
  width: 128,
  height: 128,
  seed: 7,
  sha256: 'a'.repeat(64),
  content_type: 'image/png',
}
const ended: Job = {
  id: '0198c0de-0000-7000-8000-000000000000',
  status: 'succeeded',
  created_at: '2026-11-24T12:00:00.000Z',
  started_at: '2026-11-24T12:00:05.000Z',
  completed_at: '2026-11-24T12:00:09.000Z',
  input,
  input_truncated: false,
  progress: { step: 20, total: 20 },
  queue_position: null,
  notice: null,
  eta_seconds: null,
  output: { images: [image] },
  error: null,
  timings: { queue_ms: 1, encode_ms: 2, denoise_ms: 3, decode_ms: 4, upload_ms: 5, total_ms: 15 },
  receipt: {
    model: { id: 'tiny-scenes', content_hash: 'b'.repeat(64) },
    runtime: 'onnxruntime-node 1.30.0',
    provider: 'cpu',
    platform: 'linux-x64',
    processor: 'a processor',
    scheduler: { class: 'FlowMatchEulerDiscreteScheduler', config: { shift: 3 } },
    encoder: { name: 'sharp 0.35.5', png_compression_level: 6, metadata: 'full' },
    parameters: input,
    images: [{ seed: 7, sha256: image.sha256 }],
  },
  replay: { of: '0198c0de-0000-7000-8000-000000000001', identical: true, note: null },
}
const running: Job = {
  ...ended,
  status: 'running',
  completed_at: null,
  output: null,
  timings: null,
  receipt: null,
  replay: { of: '0198c0de-0000-7000-8000-000000000001', identical: null, note: null },
  progress: { step: 8, total: 20 },
}
const queued: Job = { ...running, status: 'queued', started_at: null, progress: { step: 0, total: 20 }, queue_position: 3, eta_seconds: 9 }

function parse(body: string): WebhookBody {
  return webhookBodySchema.parse(JSON.parse(body))
}

describe('a webhook message', () => {
  test('about an event shows the job as it was then, however late it is made', () => {
    const late = toMessage('queued', ended, now)
    expect(late?.id).toBe(`msg_${ended.id}_queued`)
    expect(parse(late?.body ?? '')).toEqual({
      type: 'job.queued',
      timestamp: ended.created_at,
      data: { ...queued, queue_position: null, eta_seconds: null },
    })
    expect(parse(toMessage('started', ended, now)?.body ?? '')).toEqual({
      type: 'job.started',
      timestamp: ended.started_at,
      data: { ...running, progress: { step: 0, total: 20 } },
    })
    expect(parse(toMessage('queued', queued, now)?.body ?? '').data).toEqual(queued)
  })

  test('about the end has the whole job', () => {
    expect(parse(toMessage('completed', ended, now)?.body ?? '')).toEqual({
      type: 'job.completed',
      timestamp: ended.completed_at,
      data: ended,
    })
  })

  test('about progress has an id for each step and the time at which it is sent', () => {
    const message = toMessage('progress', running, now)
    expect(message?.id).toBe(`msg_${ended.id}_progress_8`)
    expect(parse(message?.body ?? '')).toEqual({ type: 'job.progress', timestamp: new Date(now).toISOString(), data: running })
  })

  test('is not made about anything that has not happened or is no longer news', () => {
    expect(toMessage('started', queued, now)).toBeUndefined()
    expect(toMessage('completed', running, now)).toBeUndefined()
    expect(toMessage('progress', queued, now)).toBeUndefined()
    expect(toMessage('progress', ended, now)).toBeUndefined()
  })

  test('stays within 20 kB by cutting prompts at whole characters, which the prompts then say', () => {
    const prompt = '🏠'.repeat(4000)
    const { body } = toMessage('completed', { ...ended, input: { ...input, prompt, prompt_3: prompt, negative_prompt: 'short' } }, now) ?? {
      body: '',
    }
    expect(Buffer.byteLength(body)).toBeLessThanOrEqual(20_000)
    const { data } = parse(body)
    expect(data.input.prompt).toMatch(/^(🏠)+… \[the first \d+ of 4000 characters\]$/u)
    expect(data.input.prompt.isWellFormed()).toBe(true)
    expect(data.input.negative_prompt).toBe('short')
    // The receipt repeats the prompts and can be read from the job.
    expect(data.receipt).toBeNull()
  })

  test('fits even if everything in it is as long as possible, without the links that a read gives again', () => {
    const long = '\u0001'.repeat(4000)
    const everything = {
      ...input,
      prompt: long,
      prompt_2: long,
      prompt_3: long,
      negative_prompt: long,
      negative_prompt_2: long,
      negative_prompt_3: long,
    }
    const sigmas = Array.from({ length: 200 }, (_, i) => i / 3 + 1e-13)
    const images = Array.from({ length: 10 }, () => ({
      ...image,
      direct_url: `https://s3/${'x'.repeat(1800)}`,
      direct_url_expires_at: ended.created_at,
    }))
    const { body } = toMessage('completed', { ...ended, input: { ...everything, sigmas }, output: { images } }, now) ?? { body: '' }
    expect(Buffer.byteLength(body)).toBeLessThanOrEqual(20_000)
    const { data } = parse(body)
    expect(data.input.sigmas).toEqual(sigmas)
    expect(data.output?.images).toEqual(Array.from({ length: 10 }, () => image))
  })
})
