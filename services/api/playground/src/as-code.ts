/** Writes a job as code that makes the same picture again. Runs in the browser; pure. */
import type { CreateJobRequest } from '@easel/contract'

/** `base`: URL of the api, without a slash at its end. `keyed`: whether the api wants a key. */
export interface CodeOptions {
  base: string
  keyed: boolean
  /** Seed of the picture. */
  seed: number
}

export function toCurl(request: CreateJobRequest, { base, keyed, seed }: CodeOptions): string {
  const body = JSON.stringify(toBody(request, seed), undefined, 2).replaceAll("'", String.raw`'\''`)
  const lines = [`curl -s '${base}/v1/jobs'`, "-H 'content-type: application/json'", "-H 'prefer: wait=60'"]
  if (keyed) lines.push('-H "authorization: Bearer $EASEL_API_KEY"')
  return [...lines, `-d '${body}'`].join(' \\\n  ')
}

export function toTypeScript(request: CreateJobRequest, { base, keyed, seed }: CodeOptions): string {
  const key = keyed ? '\n    authorization: `Bearer ${process.env.EASEL_API_KEY}`,' : ''
  const body = JSON.stringify(toBody(request, seed), undefined, 2).replaceAll('\n', '\n  ')
  return `const response = await fetch(${JSON.stringify(`${base}/v1/jobs`)}, {
  method: 'POST',
  headers: {
    'content-type': 'application/json',
    prefer: 'wait=60',${key}
  },
  body: JSON.stringify(${body}),
})
const job = await response.json()
console.log(job.output?.images[0].url ?? job)
`
}

/** One picture, every setting said. */
function toBody(
  { num_images_per_prompt: _count, ...request }: CreateJobRequest,
  seed: number,
): Omit<CreateJobRequest, 'num_images_per_prompt'> {
  return { ...request, seed }
}
