/** The pictures of a successful job in the form of OpenAI's image endpoint: as one answer, or as the last events of a stream. */
import { z } from '@hono/zod-openapi'
import type { JobRecord } from '@easel/job-store'
import type { AppDeps } from '../../app-deps.ts'
import { toImageUrl } from '../../jobs/to-job.ts'
import { toPublicUrl } from '../../public-url.ts'
import { readBase64 } from '../read-base64.ts'

const count = z.int().describe('Always 0: tokens are not counted here.')
const usageSchema = z.object({
  input_tokens: count,
  input_tokens_details: z.object({ text_tokens: count, image_tokens: count }),
  output_tokens: count,
  total_tokens: count,
})

/** All zero, because nothing is billed and the api has no tokenizer; clients expect the block. */
export const usage: z.infer<typeof usageSchema> = {
  input_tokens: 0,
  input_tokens_details: { text_tokens: 0, image_tokens: 0 },
  output_tokens: 0,
  total_tokens: 0,
}

export const imagesResponseSchema = z
  .object({
    created: z.int().describe('Unix time in seconds.'),
    background: z.literal('opaque'),
    output_format: z.enum(['png', 'jpeg', 'webp']),
    size: z.string().describe('WIDTHxHEIGHT'),
    data: z.array(z.object({ b64_json: z.string().optional(), url: z.string().optional() })),
    usage: usageSchema,
  })
  .meta({ id: 'OpenAiImagesResponse' })
export type ImagesResponse = z.infer<typeof imagesResponseSchema>

/** `format` undefined means both. */
export async function toImagesResponse(
  deps: Pick<AppDeps, 'config' | 'storage'>,
  record: JobRecord,
  format: 'url' | 'b64_json' | undefined,
): Promise<ImagesResponse> {
  const images = record.output?.images ?? []
  const data = images.map(async (image) => ({
    b64_json: format === 'url' ? undefined : await readBase64(deps, image),
    url: format === 'b64_json' ? undefined : toImageUrl(toPublicUrl(deps.config), image.key),
  }))
  return {
    created: toUnixTime(record.completedAt ?? record.createdAt),
    background: 'opaque',
    output_format: record.input.output_format,
    size: toSize(record),
    data: await Promise.all(data),
    usage,
  }
}

export function toSize({ input }: JobRecord): string {
  return `${input.width}x${input.height}`
}

export function toUnixTime(ms: number): number {
  return Math.floor(ms / 1000)
}
