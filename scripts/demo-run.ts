/**
 * Owns `npm run demo`: the whole service on free ports, a few prompts at once through its HTTP API, the pictures on screen and on disk.
 *
 * Invariant: it shares nothing with a running Easel (own queue prefix, own storage, own ports) and leaves nothing behind but demo-output/,
 * whether it ends by itself or by Ctrl-C. All requests go through the HTTP API, as a client's would. Runs on Node 24.
 */
import { Redis } from 'ioredis'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import sharp from 'sharp'
import type { CreateJobRequest, Job } from '../packages/contract/src/index.ts'
import { createProgressLines } from '../packages/cli/src/terminal/progress-lines.ts'
import {
  endServices,
  failWhenOneEnds,
  type ServiceProcess,
  startService,
  untilReady,
} from '../packages/cli/src/services/service-process.ts'
import { onStopSignals } from '../packages/cli/src/services/stop-signals.ts'
import { ensureRedisServer } from '../packages/cli/src/setup/ensure-redis.ts'
import { toHalfBlocks, toRows } from '../packages/cli/src/terminal/terminal-picture.ts'
import { findFreePort, startRedisProcess } from '@easel/redis-server'

const demoRequests = [
  { prompt: 'a red boat on the sea', seed: 42 },
  { prompt: 'a big green cat at night', seed: 7 },
  { prompt: 'a purple flower and a pink balloon in a meadow', seed: 3, num_images_per_prompt: 2 },
  { prompt: 'a black rocket above a white ball at sunset', seed: 5 },
]
/** The first picture is drawn again from itself: the whole of it, and a disc in the middle. */
const repaintRequest = { prompt: 'a blue boat on the sea', strength: 0.6, seed: 42 }
const partRequest = { prompt: 'a yellow star', strength: 0.9, seed: 42 }
const discMask = '<svg width="128" height="128"><rect width="128" height="128"/><circle cx="64" cy="64" r="36" fill="#fff"/></svg>'
const outputFolder = 'demo-output'
const startLimitMs = 120_000
const jobsLimitMs = 300_000
const endLimitMs = 10_000
/** The width of a picture on screen in characters, if the terminal is wide enough; it takes half as many lines. */
const pictureColumns = 48

const stopping = new AbortController()
onStopSignals(
  () => stopping.abort(),
  () => process.exit(130),
)
process.exitCode = await main()

async function main(): Promise<number> {
  const startedAt = performance.now()
  const cleanups: (() => Promise<unknown>)[] = []
  try {
    await mkdir(outputFolder, { recursive: true })
    const { url, services } = await startEasel(cleanups)
    const ended = failWhenOneEnds(services)
    console.log('Starting Redis, the api and one worker …')
    await Promise.race([untilReady(services, url, toLimit(startLimitMs)), ended])
    console.log(`Ready after ${toSeconds(performance.now() - startedAt)}. ${demoRequests.length} prompts at once to ${url}/v1/jobs:\n`)
    const made = await Promise.race([runJobs(url, demoRequests, toLimit(jobsLimitMs)), ended])
    console.log(`\nTwo more pictures that begin with the first: one redraws all of it, the other a disc in the middle.\n`)
    const image = made[0]?.url ?? ''
    const mask = `data:image/png;base64,${(await sharp(Buffer.from(discMask)).png().toBuffer()).toString('base64')}`
    const again = [
      { ...repaintRequest, image },
      { ...partRequest, image, mask },
    ]
    made.push(...(await Promise.race([runJobs(url, again, toLimit(jobsLimitMs)), ended])))
    if (process.stdout.isTTY && process.stdout.getColorDepth() === 24) await draw(made.map(({ png }) => png))
    console.log(
      `\nThe pictures are kept in ${outputFolder}/; the service of this demo ends now. To start one that keeps running: npm start`,
    )
    return 0
  } catch (error) {
    if (stopping.signal.aborted) return 0
    const reason = error instanceof Error && error.name !== 'TimeoutError' ? error.message : 'it took too long'
    console.error(`\nThe demo failed: ${reason}. The services' logs are ${outputFolder}/api.log and ${outputFolder}/gpu-worker.log.`)
    return 1
  } finally {
    stopping.abort()
    console.log('Stopping everything …')
    for (const cleanup of cleanups.toReversed()) await cleanup()
  }
}

/** Starts Redis (unless REDIS_URL names one), the api and a worker, and adds to `cleanups` step by step what undoes this. */
async function startEasel(cleanups: (() => Promise<unknown>)[]): Promise<{ url: string; services: ServiceProcess[] }> {
  const storageDir = await mkdtemp(join(tmpdir(), 'easel-demo-'))
  cleanups.push(() => rm(storageDir, { recursive: true, force: true }))
  const prefix = `{${basename(storageDir)}}`

  let redisUrl = process.env['REDIS_URL'] || undefined
  if (redisUrl === undefined) {
    ensureRedisServer()
    const port = await findFreePort()
    const redis = await startRedisProcess({ port, dir: join(storageDir, 'redis'), detached: true, image: process.env['REDIS_IMAGE'] })
    cleanups.push(() => redis.stop())
    redisUrl = `redis://127.0.0.1:${port}`
  } else {
    cleanups.push(() => deleteKeys(new Redis(redisUrl as string), prefix))
  }

  const port = await findFreePort()
  const url = `http://127.0.0.1:${port}`
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    HOST: '127.0.0.1',
    PORT: String(port),
    PUBLIC_URL: url,
    REDIS_URL: redisUrl,
    QUEUE_PREFIX: prefix,
    MODEL: 'tiny-scenes',
    MODELS_DIR: 'models',
    STORAGE: 'local',
    STORAGE_DIR: storageDir,
    SHUTDOWN_GRACE: '1',
    // These are meant for the real service and would disturb the demo.
    MODEL_PATH: undefined,
    API_KEYS: undefined,
    RATE_LIMIT: undefined,
    METRICS_PORT: undefined,
  }
  const services = (['api', 'gpu-worker'] as const).map((name) => startService(name, env, join(outputFolder, `${name}.log`)))
  cleanups.push(() => endServices(services, endLimitMs))
  return { url, services }
}

/** Submits everything, follows it to the end, saves the pictures and says where they are. */
async function runJobs(url: string, requests: readonly CreateJobRequest[], signal: AbortSignal): Promise<{ url: string; png: Buffer }[]> {
  const lines = createProgressLines(
    requests.map(({ prompt }) => prompt),
    process.stdout,
  )
  const jobs = await Promise.all(
    requests.map(async (request, index) => {
      const headers = { 'content-type': 'application/json' }
      let job = await requestJob(`${url}/v1/jobs`, { method: 'POST', headers, body: JSON.stringify(request), signal })
      while (job.completed_at === null) {
        lines.update(index, job)
        await sleep(100, undefined, { signal })
        job = await requestJob(`${url}/v1/jobs/${job.id}`, { signal })
      }
      lines.update(index, job)
      return job
    }),
  )

  const pictures: { url: string; png: Buffer }[] = []
  for (const job of jobs) {
    const { output, error, timings, input } = job
    if (output === null || timings === null) throw new Error(`"${input.prompt}" ended ${job.status}: ${error?.message}`)
    const steps = `${job.progress.total} steps in ${timings.denoise_ms.toFixed(0)} ms`
    console.log(`\n${input.prompt}\n  ${toSeconds(timings.total_ms)} (waited ${timings.queue_ms.toFixed(0)} ms, ${steps})`)
    for (const [index, image] of output.images.entries()) {
      const png = Buffer.from(await (await expectOk(await fetch(image.url, { signal }))).arrayBuffer())
      const suffix = output.images.length === 1 ? '' : `-${index}`
      const file = join(outputFolder, `${input.prompt.replaceAll(/\W+/g, '-')}${suffix}.png`)
      await writeFile(file, png)
      console.log(`  ${file}  (${image.width} × ${image.height}, seed ${image.seed})`)
      pictures.push({ url: image.url, png })
    }
  }
  return pictures
}

async function requestJob(url: string, init: RequestInit): Promise<Job> {
  return (await (await expectOk(await fetch(url, init))).json()) as Job
}

async function expectOk(response: Response): Promise<Response> {
  if (!response.ok) throw new Error(`Expected 2xx from ${response.url}, got ${response.status}: ${await response.text()}`)
  return response
}

async function draw(pictures: Buffer[]): Promise<void> {
  const columns = process.stdout.columns
  const width = Math.min(pictureColumns, columns)
  const drawn = pictures.map(async (png) => {
    const { data, info } = await sharp(png).resize(width, width, { fit: 'fill' }).removeAlpha().raw().toBuffer({ resolveWithObject: true })
    return toHalfBlocks({ data, width: info.width, height: info.height })
  })
  console.log(`\n${toRows(await Promise.all(drawn), width, columns).join('\n')}`)
}

/** Removes what the demo wrote into a Redis that is not its own. */
async function deleteKeys(redis: Redis, prefix: string): Promise<void> {
  for await (const keys of redis.scanStream({ match: `${prefix}*`, count: 1000 })) {
    if (keys.length > 0) await redis.unlink(keys)
  }
  redis.disconnect()
}

function toLimit(limitMs: number): AbortSignal {
  return AbortSignal.any([stopping.signal, AbortSignal.timeout(limitMs)])
}

function toSeconds(durationMs: number): string {
  return `${(durationMs / 1000).toFixed(1)} s`
}
