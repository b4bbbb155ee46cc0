/** Writes a job as code that makes the same picture again: for a shell, or for a program with `@easel/client`. Runs in the browser; pure. */
import type { CreateJobRequest } from '@easel/contract'

/** `base`: the URL of the api, without a slash at its end. `keyed`: whether the api asks for a key. */
export interface CodeOptions {
  base: string
  keyed: boolean
  /** The seed of the picture. */
  seed: number
}

export function toCurl(request: CreateJobRequest, { base, keyed, seed }: CodeOptions): string {
  const body = JSON.stringify(toBody(request, seed), undefined, 2).replaceAll("'", String.raw`'\''`)
  const lines = [`curl -s '${base}/v1/jobs'`, "-H 'content-type: application/json'", "-H 'prefer: wait=60'"]
  if (keyed) lines.push('-H "authorization: Bearer $EASEL_API_KEY"')
  return [...lines, `-d '${body}'`].join(' \\\n  ')
}

export function toTypeScript(request: CreateJobRequest, { base, keyed, seed }: CodeOptions): string {
  const key = keyed ? ', apiKey: process.env.EASEL_API_KEY' : ''
  // Each property stands on a line of its own; line breaks within a text are escaped.
  const body = JSON.stringify(toBody(request, seed), undefined, 2).replaceAll(/^( +)"(\w+)":/gm, '$1$2:')
  return `// docs/client.md in Easel's repository says how to install this package.
import { Easel } from '@easel/client'

const easel = new Easel({ baseUrl: ${JSON.stringify(base)}${key} })
const { output } = await easel.run(${body})
await easel.images.toFile(output.images[0], 'picture.${request.output_format ?? 'png'}')
`
}

/** The request for that one picture, with every setting given. */
function toBody(
  { num_images_per_prompt: _count, ...request }: CreateJobRequest,
  seed: number,
): Omit<CreateJobRequest, 'num_images_per_prompt'> {
  return { ...request, seed }
}
