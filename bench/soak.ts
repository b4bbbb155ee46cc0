/**
 * `npm run bench -- soak MINUTES`: mixed load on the real services while their processes are killed at random; every job is accounted for.
 *
 * Every two to five seconds one process gets SIGKILL: the engine of a worker, a worker, or the api. Killed services start again, as under a
 * container runtime. Eight clients submit jobs of a fixed set of inputs meanwhile, with webhooks; some cancel. In the end:
 *   each job that was submitted has ended, exactly once (one `done` in its stream), and its end is still what the client saw first;
 *   no job exists that was not submitted;
 *   every picture has the hash that the same input gave before the first kill, in the record and as a file;
 *   each job's end was reported correctly, and more than once only where an api was killed; nothing is left of the fair share.
 * Prints a verdict and last one line of JSON; ends with 0 only when all of it holds.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { createKeys, isEnded } from '@easel/contract'
import type { Job } from '@easel/contract'
import { createRedis } from '@easel/job-store'
import { findFreePort, startRedis } from '@easel/job-store/test/redis-server'
import { describeHardware, readCommit } from './harness/report.ts'
import { modelsDir } from './load/bench-model.ts'
import { startMortal } from './soak/mortal-service.ts'
import { createPatientClient } from './soak/patient-client.ts'
import { startWebhookReceiver } from './soak/webhook-receiver.ts'

const clients = 8
const canceledShare = 0.1
const killEveryMs = { from: 2000, to: 5000 }
/** How long the remaining jobs may take to end after the last kill, and their webhooks to arrive. */
const settleMs = 120_000

/** The inputs that clients choose from: a mix of sizes, steps, guidance and pictures, few enough that each is used often. */
const inputs = Array.from({ length: 12 }, (_, n) => ({
  prompt: `scene ${n}: a red boat on the sea`,
  width: [64, 96, 128][n % 3] as number,
  height: [64, 96, 128][n % 3] as number,
  num_inference_steps: [4, 8, 20][Math.floor(n / 3) % 3] as number,
  guidance_scale: n % 4 === 0 ? 1 : 4,
  num_images_per_prompt: n % 5 === 0 ? 2 : 1,
  seed: n,
}))

const hashesOf = (job: Job): string => (job.output?.images ?? []).map(({ sha256 }) => sha256).join()
const between = (from: number, to: number): number => from + Math.random() * (to - from)

// oxlint-disable-next-line max-lines-per-function -- one sequence, its phases numbered.
export async function runSoak(minutes: number): Promise<number> {
  if (!(minutes > 0)) throw new Error(`Expected minutes above 0, got ${minutes}`)
  const commit = readCommit()
  console.log(`Easel soak, commit ${commit}, ${describeHardware()}, ${minutes} minutes`)

  // 1. The system
  const redis = await startRedis({ appendonly: true })
  const dir = await mkdtemp(join(tmpdir(), 'easel-soak-'))
  const port = await findFreePort()
  const url = `http://127.0.0.1:${port}`
  const secret = `whsec_${randomBytes(32).toString('base64')}`
  const receiver = await startWebhookReceiver(secret)
  const env = {
    PATH: process.env['PATH'],
    HOST: '127.0.0.1',
    PORT: String(port),
    PUBLIC_URL: url,
    REDIS_URL: redis.url,
    STORAGE_DIR: dir,
    MODELS_DIR: modelsDir,
    DEVICE: 'cpu',
    JOB_LOCK_DURATION: '3',
    WEBHOOK_SECRETS: secret,
    WEBHOOK_ALLOW_INSECURE: 'true',
    WEBHOOK_RETRY_DELAYS: '0,1,1,2,2,5,5,10,10,10',
  }
  const api = startMortal('api', env)
  const workers = [startMortal('gpu-worker', env), startMortal('gpu-worker', env)]
  const client = createPatientClient(url)
  const connection = createRedis({ url: redis.url, use: 'worker', onError: () => {} })
  const keys = createKeys()
  const problems: string[] = []
  const kills = { engine: 0, worker: 0, api: 0 }

  try {
    // 2. What every input gives while nothing is killed
    while ((await fetch(`${url}/readyz`).catch(() => undefined))?.status !== 200) await sleep(100)
    const expected = await Promise.all(
      inputs.map(async (input) => {
        const job = await client.untilEnded((await client.submit(input)).id, settleMs)
        if (job.status !== 'succeeded') throw new Error(`Expected a picture before the first kill, got ${JSON.stringify(job)}`)
        return hashesOf(job)
      }),
    )
    const before = new Set((await client.listAll()).map(({ id }) => id))

    // 3. Load and kills
    const seen = new Map<string, { job: Job; input: number; canceled: boolean }>()
    const loadEnds = AbortSignal.timeout(minutes * 60_000)
    const load = async (): Promise<void> => {
      while (!loadEnds.aborted) {
        const input = Math.floor(Math.random() * inputs.length)
        const { id } = await client.submit({ ...inputs[input], webhook: receiver.url, preview_every: 5 })
        const wantsCancel = Math.random() < canceledShare
        if (wantsCancel) await sleep(between(0, 500))
        const canceled = wantsCancel && (await client.cancel(id))
        seen.set(id, { job: await client.untilEnded(id, settleMs), input, canceled })
      }
    }
    const killAtRandom = async (): Promise<void> => {
      while (!loadEnds.aborted) {
        await sleep(between(killEveryMs.from, killEveryMs.to), undefined, { signal: loadEnds }).catch(() => {})
        if (loadEnds.aborted) return
        const worker = workers[Math.floor(Math.random() * workers.length)]
        const victim = (['engine', 'worker', 'api'] as const)[Math.floor(Math.random() * 3)] ?? 'api'
        if (victim === 'api') api.kill()
        else if (victim === 'worker') worker?.kill()
        else if (worker?.enginePid === undefined || !killProcess(worker.enginePid)) continue
        kills[victim]++
      }
    }
    await Promise.all([...Array.from({ length: clients }, load), killAtRandom()])

    // 4. Webhooks that are still under way
    const settledBy = performance.now() + settleMs
    while ([...seen.keys()].some((id) => !receiver.completed.has(id)) && performance.now() < settledBy) await sleep(200)

    // 5. The account
    const statuses: Record<string, number> = {}
    let repeated = 0
    for (const [id, { job, input, canceled }] of seen) {
      statuses[job.status] = (statuses[job.status] ?? 0) + 1
      const now = await client.get(id)
      if (!isEnded(job.status)) problems.push(`${id} has not ended: ${job.status}`)
      if (now.status !== job.status || now.completed_at !== job.completed_at || hashesOf(now) !== hashesOf(job))
        problems.push(`${id} ended as ${job.status} and is now ${now.status}`)
      const entries = await connection.xrange(keys.events(id), '-', '+')
      const ends = entries.filter(([, fields]) => fields.some((field) => /^(done|.*"type":"done".*)$/.test(field))).length
      if (ends !== 1) problems.push(`${id} ended ${ends} times in its stream`)
      if (job.status === 'canceled' && !canceled) problems.push(`${id} was canceled without a request`)
      if (job.status === 'succeeded' && canceled) problems.push(`${id} succeeded after its cancel was accepted`)
      if (job.status === 'failed') problems.push(`${id} failed: ${job.error?.code}`)
      if (job.status === 'succeeded') {
        if (hashesOf(now) !== expected[input]) problems.push(`${id} has another picture than the same input had before`)
        for (const image of now.output?.images ?? []) {
          const sha256 = createHash('sha256')
            .update(await client.download(image.url))
            .digest('hex')
          if (sha256 !== image.sha256) problems.push(`${id}: ${image.url} is not the file that was recorded`)
        }
      }
      const told = receiver.completed.get(id) ?? []
      if (told.length === 0 || told.some((status) => status !== job.status))
        problems.push(`${id} ended as ${job.status} and was reported as [${told.join(', ')}]`)
      repeated += Math.max(0, told.length - 1)
    }
    for (const { id } of await client.listAll()) if (!seen.has(id) && !before.has(id)) problems.push(`${id} was never submitted`)
    // A killed api may have sent messages that it had not recorded yet, at most one for each client that waits.
    if (repeated > kills.api * clients) problems.push(`${repeated} messages were repeated, after ${kills.api} kills of the api`)
    const left = await connection.keys(`${keys.share('')}*`)
    if (left.length > 0) problems.push(`left of the fair share: ${left.join(', ')}`)
    problems.push(...receiver.wrong)

    const ok = problems.length === 0
    for (const problem of problems) console.log(`  ${problem}`)
    console.log(
      `${seen.size} jobs (${JSON.stringify(statuses)}), kills ${JSON.stringify(kills)}, ${problems.length} problems: ${ok ? 'all accounted for' : 'NOT OK'}`,
    )
    console.log(
      JSON.stringify({ commit, hardware: describeHardware(), minutes, jobs: seen.size, statuses, kills, problems: problems.length, ok }),
    )
    return ok ? 0 : 1
  } finally {
    await Promise.all([api, ...workers].map((service) => service.close()))
    await receiver.close()
    connection.disconnect()
    await redis.stop()
    await rm(dir, { recursive: true, force: true })
  }
}

/** False when the job has already ended. */
function killProcess(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL')
  } catch {
    return false
  }
}
