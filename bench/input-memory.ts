/**
 * `npm run bench -- inputs`: the memory of an api while twenty requests at once, of five owners, each bring a picture of nearly 20 MiB: as a raw
 * upload, as a form, as OpenAI's edit, and as a URL that the api fetches. No worker runs, so no job makes progress. Prints the resident memory at
 * rest, its peak (`VmHWM`, Linux only), both in MiB, and the answers.
 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { crc32, deflateSync } from 'node:zlib'
import type { ModelRecord } from '@easel/contract'
import { createModelRegistry, createRedis } from '@easel/job-store'
import { findFreePort, startRedis } from '@easel/job-store/test/redis-server'
import { describeHardware, readCommit } from './harness/report.ts'
import { modelName } from './load/bench-model.ts'

const requests = 20
const owners = 5
/** The side in pixels of a PNG that is stored without compression; the file has 20.3 MB. */
const side = 2600
const prefix = '{easel}'
const entry = fileURLToPath(new URL('../services/api/src/main.ts', import.meta.url))

const model: ModelRecord = {
  id: modelName,
  content_hash: '0'.repeat(64),
  runtime: 'none',
  provider: 'cpu',
  scheduler: { class: 'FlowMatchEulerDiscreteScheduler', config: {} },
  defaults: { width: 128, height: 128, num_inference_steps: 20, guidance_scale: 4, max_sequence_length: 20 },
  limits: { size_multiple: 16, max_side: 256, max_pixels: 65_536, max_sequence_length: 512, max_clip_skip: 1 },
  has_vae_encoder: true,
  step_ms: 20,
  updated_at: new Date(0).toISOString(),
}

type Send = (url: string, n: number, headers: Record<string, string>) => Promise<Response>

export async function runInputMemory(): Promise<number> {
  console.log(`Easel input pictures, commit ${readCommit()}, ${describeHardware()}; MiB of the api process, ${requests} requests at once`)
  const pictures = Array.from({ length: requests }, (_, n) => toPng(n))
  const web = createServer((request, response) => response.end(pictures[Number(request.url?.slice(1))])).listen(0, '127.0.0.1')
  await once(web, 'listening')
  const redis = await startRedis()
  const connection = createRedis({ url: redis.url, use: 'worker', onError: () => {} })
  const dir = await mkdtemp(join(tmpdir(), 'easel-inputs-'))
  const toFile = (n: number): File => new File([pictures[n] as Uint8Array<ArrayBuffer>], 'picture.png', { type: 'image/png' })
  const ways: Record<string, Send> = {
    'raw upload': (url, n, headers) =>
      fetch(`${url}/v1/uploads`, { method: 'POST', headers, body: pictures[n] as Uint8Array<ArrayBuffer> }),
    form: (url, n, headers) => fetch(`${url}/v1/uploads`, { method: 'POST', headers, body: toForm({ file: toFile(n) }) }),
    edit: (url, n, headers) =>
      fetch(`${url}/v1/images/edits`, { method: 'POST', headers, body: toForm({ image: toFile(n), prompt: 'a' }) }),
    'fetched URL': (url, n, headers) => {
      const image = `http://127.0.0.1:${(web.address() as AddressInfo).port}/${n}`
      const json = { ...headers, 'Content-Type': 'application/json' }
      return fetch(`${url}/v1/jobs`, { method: 'POST', headers: json, body: JSON.stringify({ prompt: 'a', image }) })
    },
  }
  try {
    await createModelRegistry({ redis: connection, prefix }).announce(model)
    console.log('| way | at rest | peak | answers |\n|---|--:|--:|---|')
    for (const [name, send] of Object.entries(ways)) {
      const { restMib, peakMib, answers } = await measure(send, { REDIS_URL: redis.url, STORAGE: 'local', STORAGE_DIR: dir })
      console.log(`| ${name} | ${restMib.toFixed(0)} | ${peakMib.toFixed(0)} | ${answers} |`)
    }
  } finally {
    web.close()
    web.closeAllConnections()
    connection.disconnect()
    await redis.stop()
    await rm(dir, { recursive: true, force: true })
  }
  return 0
}

async function measure(send: Send, env: Record<string, string>): Promise<{ restMib: number; peakMib: number; answers: string }> {
  const port = await findFreePort()
  const keyOf = (owner: number): string => `key-of-owner-${owner}`
  const keys = Array.from({ length: owners }, (_, owner) => `owner${owner}:${keyOf(owner)}`).join(',')
  const own = {
    HOST: '127.0.0.1',
    PORT: String(port),
    API_KEYS: keys,
    INPUT_ALLOW_INSECURE: 'true',
    INFERENCE_WAIT: '1',
    LOG_LEVEL: 'error',
  }
  const api = spawn(process.execPath, [entry], {
    env: { PATH: process.env['PATH'], QUEUE_PREFIX: prefix, ...own, ...env },
    stdio: 'inherit',
  })
  try {
    const url = `http://127.0.0.1:${port}`
    while (
      !(await fetch(`${url}/livez`)
        .then(({ ok }) => ok)
        .catch(() => false))
    )
      await sleep(100)
    const restMib = readMib(api.pid, 'VmRSS')
    const statuses = await Promise.all(
      Array.from({ length: requests }, async (_, n) => {
        const response = await send(url, n, { Authorization: `Bearer ${keyOf(n % owners)}` })
        await response.arrayBuffer()
        return response.status
      }),
    )
    const counts = [...Map.groupBy(statuses, (status) => status)].map(([status, all]) => `${all.length} × ${status}`)
    return { restMib, peakMib: readMib(api.pid, 'VmHWM'), answers: counts.join(', ') }
  } finally {
    api.kill('SIGKILL')
  }
}

function readMib(pid: number | undefined, name: string): number {
  const [, kib] = new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kib) / 1024
}

function toForm(parts: Record<string, File | string>): FormData {
  const form = new FormData()
  for (const [name, value] of Object.entries(parts)) form.append(name, value)
  return form
}

/** A picture that differs from those of other numbers, stored without compression. */
function toPng(n: number): Uint8Array<ArrayBuffer> {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(side, 0)
  header.writeUInt32BE(side, 4)
  header.set([8, 2], 8)
  // Each row begins with a byte that names its filter.
  const rows = Buffer.alloc((side * 3 + 1) * side)
  rows.fill(Buffer.from([n, 2 * n, 3 * n]), 1, side * 3 + 1)
  const chunk = (type: string, data: Uint8Array): Buffer => {
    const body = Buffer.concat([Buffer.from(type), data])
    const framed = Buffer.alloc(body.length + 8)
    framed.writeUInt32BE(data.length, 0)
    framed.set(body, 4)
    framed.writeUInt32BE(crc32(body), body.length + 4)
    return framed
  }
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')
  const chunks = [chunk('IHDR', header), chunk('IDAT', deflateSync(rows, { level: 0 })), chunk('IEND', new Uint8Array())]
  return new Uint8Array(Buffer.concat([signature, ...chunks]))
}
