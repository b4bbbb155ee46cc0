/**
 * Completes the OpenAPI descriptions of the routes: names of operations, groups in an order that suits readers, and an example for every
 * request with a body. Each example works unchanged on a server with the embedded model; a test sends them all.
 * Pure.
 */
import type { OpenAPIHono } from '@hono/zod-openapi'

type Document = ReturnType<OpenAPIHono['getOpenAPI31Document']>
type Operation = NonNullable<NonNullable<Document['paths']>[string]['get']>

const methods = ['get', 'post', 'put', 'delete'] as const

const groups = [
  { name: 'Jobs', description: 'Make pictures, follow, list and cancel jobs: Easel’s own api.', path: /^\/v1\/jobs/ },
  { name: 'Pictures', description: 'Files: results, and input pictures.', path: /^\/(images|v1\/uploads)(\/|$)/ },
  {
    name: 'Service',
    description: 'Models, usage, and whether the service works.',
    path: /^\/(v1\/capabilities|v1\/usage|livez|readyz|metrics)?$/,
  },
  { name: 'Diffusers example', description: 'The interface of diffusers’ example server.', path: /^\/api\// },
]

const prompt = 'a red boat on the sea'
const input = { prompt, seed: 42, num_inference_steps: 8 }
const bodies: Record<string, unknown> = {
  'post /v1/jobs': { ...input, negative_prompt: 'a box', width: 128, height: 128, guidance_scale: 4, preview_every: 4 },
  'post /api/diffusers/inference': { prompt, num_inference_steps: 8, num_images_per_prompt: 1 },
  'post /v1/images/generations': { prompt, n: 1, size: '128x128', response_format: 'url', seed: 42 },
  'post /v1/predictions': { version: 'local/tiny-scenes', input },
  'post /v1/models/{owner}/{name}/predictions': { input },
  'post /fal/queue/{owner}/{name}': input,
  'post /fal/run/{owner}/{name}': input,
  'post /fal/rest/storage/upload/initiate': { content_type: 'image/png', file_name: 'boat.png' },
}

export function describeApi(document: Document): Document {
  const tagged = new Set<string>()
  for (const [path, item] of Object.entries(document.paths ?? {})) {
    for (const method of methods) {
      const operation = item[method]
      if (operation === undefined) continue
      operation.operationId ??= toOperationId(operation)
      describeHeaders(operation)
      operation.tags ??= groups.filter((group) => group.path.test(path)).map(({ name }) => name)
      for (const tag of operation.tags) tagged.add(tag)
      const body = bodies[`${method} ${path}`]
      if (body !== undefined) setExample(operation, body)
    }
  }
  const own = groups.map(({ name, description }) => ({ name, description }))
  const others = [...tagged].filter((name) => !own.some((group) => group.name === name))
  const dialects = others.map((name) => ({ name, description: `What clients of ${name} send and expect.` }))
  return { ...document, tags: [...own, ...dialects] }
}

/** `Cancel a prediction (Replicate)` → `cancelAPredictionReplicate`: a name that a generator can give to a function. */
function toOperationId({ summary = '' }: Operation): string {
  const words = summary
    .replaceAll(/[^A-Za-z0-9]+/g, ' ')
    .trim()
    .split(' ')
  return words.map((word, i) => (i === 0 ? word.toLowerCase() : word.charAt(0).toUpperCase() + word.slice(1))).join('')
}

/** The response headers that routes do not describe one by one. */
function describeHeaders(operation: Operation): void {
  for (const [status, response] of Object.entries(operation.responses ?? {})) {
    if (typeof response !== 'object' || response === null || '$ref' in response) continue
    const names = ['X-Request-Id', ...(headersOf[status] ?? [])]
    const described = Object.fromEntries(names.map((name) => [name, { description: headers[name], schema: { type: 'string' } }]))
    Object.assign(response, { headers: { ...described, ...(response as { headers?: object }).headers } })
  }
}

const headers: Record<string, string> = {
  'X-Request-Id': 'Id of the request, as in the log; the one that the client sent if it is valid.',
  'Retry-After': 'Seconds after which the same request is worth repeating.',
  'WWW-Authenticate': 'How to send a key.',
  Location: 'URL at which the job can be polled, or the picture fetched.',
}
const headersOf: Record<string, readonly string[]> = {
  202: ['Location', 'Retry-After'],
  302: ['Location'],
  401: ['WWW-Authenticate'],
  429: ['Retry-After'],
  503: ['Retry-After'],
  504: ['Location'],
}

function setExample(operation: Operation, example: unknown): void {
  const { requestBody } = operation
  if (requestBody === undefined || !('content' in requestBody)) return
  const json = requestBody.content['application/json']
  if (json !== undefined) json.example = example
}
