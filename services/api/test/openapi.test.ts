import { createConfig, lintFromString } from '@redocly/openapi-core'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { problemTable } from '@easel/contract'
import type { Job } from '@easel/contract'
import { type Easel, startEasel } from '../../../scripts/start-easel.ts'
import { uniquePng } from './pictures.ts'

interface Media {
  schema?: { properties?: Record<string, { format?: string }> }
  example?: unknown
}
interface Operation {
  operationId: string
  summary?: string
  tags: string[]
  parameters?: { name: string; in: string; description?: string }[]
  requestBody?: { content: Record<string, Media> }
  responses: Record<string, { content?: Record<string, Media> }>
}
interface Document {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, { properties?: Record<string, { description?: string }> }> }
}

const key = { authorization: 'Bearer correct-horse' }

let easel: Easel
let text: string
let document: Document
beforeAll(async () => {
  easel = await startEasel({ env: { API_KEYS: 'me:correct-horse' } })
  text = await (await fetch(`${easel.url}/openapi.json`)).text()
  document = JSON.parse(text) as Document
})
afterAll(async () => await easel.stop())

const operations = () =>
  Object.entries(document.paths).flatMap(([path, item]) => Object.entries(item).map(([method, operation]) => ({ path, method, operation })))

describe('the description of the api', () => {
  test('has nothing a linter objects to', async () => {
    const config = await createConfig({
      extends: ['recommended'],
      rules: {
        // Some operations have only one kind of answer, because they cannot fail.
        'operation-4xx-response': 'off',
        // The description names the server that serves it, even on this machine.
        'no-server-example.com': 'off',
        // OpenAI's paths have models of one segment and Replicate's of two; the same prefix is intended.
        'no-ambiguous-paths': 'off',
      },
    })
    const problems = await lintFromString({ source: text, absoluteRef: 'openapi.json', config })
    expect(problems.map(({ ruleId, message, location }) => `${ruleId}: ${message} ${location[0]?.pointer}`)).toEqual([])
  })

  test('names every operation once and puts each into a group', () => {
    const ids = operations().map(({ operation }) => operation.operationId)
    expect(new Set(ids).size).toBe(ids.length)
    expect(
      operations()
        .filter(({ operation }) => operation.tags.length !== 1)
        .map(({ path }) => path),
    ).toEqual([])
    expect(
      operations()
        .filter(({ operation }) => operation.summary === undefined)
        .map(({ path }) => path),
    ).toEqual([])
  })

  test('explains every field of a job request', () => {
    const fields = Object.entries(document.components.schemas['CreateJob']?.properties ?? {})
    expect(fields.length).toBeGreaterThan(20)
    expect(fields.filter(([, field]) => (field.description ?? '').length < 10).map(([name]) => name)).toEqual([])
  })

  test('lists every error code', () => {
    const missing = Object.keys(problemTable).filter((code) => !text.includes(`\`${code}\``))
    // Every request may get these two, which are part of the schema of a problem.
    expect(missing.filter((code) => code !== 'method_not_allowed' && code !== 'internal')).toEqual([])
    expect(text).toContain('"method_not_allowed"')
  })

  test('has an example for every request that works, and every operation is answered as documented', async () => {
    const ajv = new Ajv2020({ strict: false, validateFormats: false })
    ajv.addSchema(document, 'api')
    const job = await makeJob()
    const values: Record<string, string> = {
      id: job.id,
      file: `${job.id}-0.png`,
      model: 'tiny-scenes',
      owner: 'local',
      name: 'tiny-scenes',
      ticket: await askForTicket(),
    }
    const seen: string[] = []
    const wrong: string[] = []
    for (const { path, method, operation } of operations()) {
      const content = operation.requestBody?.content
      const body = content?.['application/json']
      const form = content?.['multipart/form-data']
      const url = easel.url + path.replaceAll(/\{(\w+)\}/g, (_match, name: string) => values[name] ?? `no-value-for-${name}`)
      const where = `${method} ${path}`
      if (content !== undefined && body?.example === undefined && form === undefined && content['image/png'] === undefined)
        wrong.push(`${where}: has no example`)
      if (body?.example !== undefined) {
        const valid = ajv.validate(
          { $ref: `api${pointer('paths', path, method, 'requestBody', 'content', 'application/json', 'schema')}` },
          body.example,
        )
        if (!valid) wrong.push(`${where}: example ${ajv.errorsText()}`)
      }
      const response = await fetch(url, {
        method,
        redirect: 'manual',
        headers: { ...key, prefer: 'wait=60', ...(body !== undefined && { 'content-type': 'application/json' }) },
        ...(content !== undefined && { body: body === undefined ? await toPictureBody(form) : JSON.stringify(body.example) }),
      })
      seen.push(`${where} ${response.status}`)
      const answer = await response.text()
      const documented = operation.responses[String(response.status)]
      if (documented === undefined) {
        wrong.push(`${where}: ${response.status} is not documented: ${answer.slice(0, 200)}`)
        continue
      }
      const type = response.headers.get('content-type')?.split(';')[0] ?? ''
      if (documented.content !== undefined && !(type in documented.content)) wrong.push(`${where}: ${response.status} comes as ${type}`)
      if (!type.endsWith('json')) continue
      const schema = `api${pointer('paths', path, method, 'responses', String(response.status), 'content', type, 'schema')}`
      if (!ajv.validate({ $ref: schema }, JSON.parse(answer)))
        wrong.push(`${where} ${response.status}: ${ajv.errorsText()} in ${answer.slice(0, 300)}`)
    }
    expect(wrong).toEqual([])
    const made = operations().filter(({ operation }) => operation.requestBody !== undefined)
    for (const { path, method } of made) expect(seen.find((line) => line.startsWith(`${method} ${path} `))).toMatch(/ 20[012]$/)
  })
})

async function makeJob(): Promise<Job> {
  const response = await fetch(`${easel.url}/v1/jobs`, {
    method: 'POST',
    headers: { ...key, 'content-type': 'application/json', prefer: 'wait=60' },
    body: JSON.stringify({ prompt: 'a cat', num_inference_steps: 2 }),
  })
  return (await response.json()) as Job
}

/** A picture, alone or as the file of a form. */
async function toPictureBody(form: Media | undefined): Promise<Blob | FormData> {
  const picture = new Blob([new Uint8Array(await uniquePng())], { type: 'image/png' })
  if (form === undefined) return picture
  const filled = new FormData()
  for (const [name, value] of Object.entries(form.example as Record<string, unknown>)) {
    if (form.schema?.properties?.[name]?.format === 'binary') filled.append(name, picture, String(value))
    else filled.append(name, String(value))
  }
  return filled
}

async function askForTicket(): Promise<string> {
  const response = await fetch(`${easel.url}/fal/rest/storage/upload/initiate`, {
    method: 'POST',
    headers: { ...key, 'content-type': 'application/json' },
    body: '{}',
  })
  return ((await response.json()) as { upload_url: string }).upload_url.split('/').at(-1) ?? ''
}

/** A JSON pointer as the fragment of a reference. */
function pointer(...keys: string[]): string {
  return `#/${keys.map((key) => encodeURIComponent(key.replaceAll('~', '~0').replaceAll('/', '~1'))).join('/')}`
}
