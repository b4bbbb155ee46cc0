/**
 * Tests the compose file (`npm run test:compose`): builds the images, starts everything, and checks as a client on this machine that
 * it works as promised: a picture at a URL that opens, work spread over three workers, a rolling restart under load that loses no job, and an
 * api image without ONNX Runtime.
 *
 * Invariant: it has its own project name and ports, and removes its containers and volumes at the end, even after a failure. The images stay.
 * Uses only Node's built-ins and the `docker` command; NODE_IMAGE, REDIS_IMAGE and S3_IMAGE name other base images.
 */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { dirname } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

/** @import { Capabilities, Job } from '../packages/contract/src/index.ts' */

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const workerCount = 3
const project = `easel-trial-${process.pid}`
const startLimitS = 300
const jobLimitMs = 180_000
/** Enough that three workers, each with 8 places by default, all get some, and that a restart always interrupts running jobs. */
const spreadJobs = 48
const restartSteps = 60

const [apiPort, s3Port] = await Promise.all([freePort(), freePort()])
const api = `http://localhost:${apiPort}`
// Variables of a `.env` file must not affect this test, so those that matter are set here.
const env = {
  ...process.env,
  BIND_ADDRESS: '127.0.0.1',
  PORT: String(apiPort),
  S3_PORT: String(s3Port),
  S3_PUBLIC_ENDPOINT: '',
  PUBLIC_URL: '',
  API_KEYS: '',
  RATE_LIMIT: '',
  // The Redis and the S3 server of the compose file, never those of the user.
  REDIS_URL: '',
  REDIS_CLUSTER: '',
  REDIS_SENTINELS: '',
  REDIS_TLS_CA: '',
  QUEUE_PREFIX: '',
  S3_ENDPOINT: '',
  S3_PREFIX: '',
  MODEL: 'tiny-scenes',
  DEVICE: 'cpu',
  GPU_WORKERS: '1',
  // Short, so that a restart under load hands jobs over instead of finishing all of them.
  SHUTDOWN_GRACE: '2',
  REDIS_PASSWORD: 'trial',
}

for (const signal of /** @type {const} */ (['SIGINT', 'SIGTERM'])) process.once(signal, () => void end(130))

try {
  await check('the images build', async () => void (await compose('build')))
  await check('everything starts, and takes jobs when it has', () => up(1))
  await check('the api image holds no ONNX Runtime, the worker image does', onnxRuntimeOnlyInWorkers)
  await check('both run as a user that is not root', neverRoot)
  await check('only the api and the S3 server are published', onlyTwoPublished)
  await check('a job becomes a picture whose URLs open from here', pictureOpens)
  await check(`--scale gpu-worker=${workerCount} spreads the work over all`, async () => {
    await up(workerCount)
    await spreads()
  })
  await check('a rolling restart of the workers under load loses no job', rollingRestart)
  console.log('\nThe compose file works as promised.')
  await end(0)
} catch (error) {
  console.error(error)
  console.error((await run('docker', ['compose', '-p', project, 'ps', '--all'], { mayFail: true })).stdout)
  console.error((await run('docker', ['compose', '-p', project, 'logs', '--tail', '40', 'api', 'gpu-worker'], { mayFail: true })).stdout)
  await end(1)
}

async function onnxRuntimeOnlyInWorkers() {
  const find = ['sh', '-c', 'find / -xdev -iname "*onnxruntime*" -print 2>/dev/null | head -n 5']
  const inApi = (await compose('exec', '-T', 'api', ...find)).trim()
  assert.equal(inApi, '', `Expected no onnxruntime in the api's container, got ${inApi}`)
  const inWorker = (await compose('exec', '-T', 'gpu-worker', ...find)).trim()
  assert.notEqual(inWorker, '', 'Expected onnxruntime in the worker: the search itself must be able to find it')
}

async function neverRoot() {
  for (const service of ['api', 'gpu-worker']) {
    assert.equal((await compose('exec', '-T', service, 'id', '-u')).trim(), '1000', `user of ${service}`)
  }
}

async function onlyTwoPublished() {
  const containers = (await compose('ps', '--quiet')).trim().split(/\s+/)
  const format = '{{range $port, $bound := .NetworkSettings.Ports}}{{range $bound}}{{.HostPort}} {{end}}{{end}}'
  const { stdout } = await run('docker', ['inspect', '--format', format, ...containers])
  assert.deepEqual([...new Set(stdout.trim().split(/\s+/))].sort(), [String(apiPort), String(s3Port)].sort())
}

async function pictureOpens() {
  const submitted = await submit({ prompt: 'a red boat on the sea', seed: 42, num_inference_steps: 10 })
  const job = await untilEnded(submitted.id)
  assert.equal(job.status, 'succeeded', JSON.stringify(job.error))
  const image = job.output?.images[0]
  assert.ok(image?.direct_url !== undefined, 'Expected an image with a direct_url')
  for (const url of [image.url, image.direct_url]) {
    const response = await fetch(url)
    assert.equal(response.status, 200, url)
    const bytes = Buffer.from(await response.arrayBuffer())
    assert.equal(createHash('sha256').update(bytes).digest('hex'), image.sha256, `bytes behind ${url}`)
  }
  assert.equal(new URL(image.direct_url).port, String(s3Port), 'direct_url leads to the S3 server')
}

async function spreads() {
  const jobs = await submitMany(spreadJobs, { num_inference_steps: 20 })
  await allSucceed(jobs)
  const shares = /** @type {Map<string, number>} */ (new Map())
  for (const { id } of jobs) {
    const worker = await recordField(id, 'worker')
    shares.set(worker, (shares.get(worker) ?? 0) + 1)
  }
  console.log(`    jobs by worker: ${[...shares].map(([worker, count]) => `${worker} ${count}`).join(', ')}`)
  assert.equal(shares.size, workerCount)
  // Far below an even share: only a worker that gets hardly any jobs is a fault.
  for (const count of shares.values())
    assert.ok(count >= spreadJobs / workerCount / 4, `Expected a fair share, got ${count} of ${spreadJobs}`)
}

async function rollingRestart() {
  const before = await workerContainers()
  const restarted = new AbortController()
  const load = keepQueueFilled(restarted.signal)
  // Its failure is reported where it is awaited.
  load.catch(() => {})
  await sleep(2000)
  for (const container of before) {
    await run('docker', ['restart', '--time', '60', container])
    await untilHealthy(container)
  }
  restarted.abort()
  const jobs = await load
  await allSucceed(jobs)
  let handedOver = 0
  for (const { id } of jobs) if (Number(await recordField(id, 'runs')) > 1) handedOver++
  console.log(`    ${jobs.length} jobs, all succeeded; ${handedOver} were begun by one worker and ended by another`)
  assert.deepEqual(await workerContainers(), before, 'the same containers run as before')
  assert.ok(handedOver > 0, 'Expected the restarts to hit running jobs: otherwise this test shows nothing')
}

/**
 * A client that has jobs waiting for as long as workers come and go.
 * @param {AbortSignal} until
 */
async function keepQueueFilled(until) {
  /** @type {Job[]} */
  const jobs = []
  while (!until.aborted) {
    const waiting = (await Promise.all(jobs.slice(-spreadJobs).map(({ id }) => getJson(`${api}/v1/jobs/${id}`)))).filter(
      (job) => /** @type {Job} */ (job).completed_at === null,
    )
    if (waiting.length < spreadJobs) jobs.push(...(await submitMany(8, { num_inference_steps: restartSteps })))
    await sleep(500)
  }
  return jobs
}

/** @param {number} workers */
async function up(workers) {
  await compose('up', '--no-build', '--wait', '--wait-timeout', String(startLimitS), '--scale', `gpu-worker=${workers}`)
  const { models } = /** @type {Capabilities} */ (await getJson(`${api}/v1/capabilities`))
  assert.equal(models[0]?.workers, workers, 'workers the api knows of')
}

/**
 * @param {Record<string, unknown>} body
 * @returns {Promise<Job>}
 */
async function submit(body) {
  const response = await fetch(`${api}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  const answer = await response.json()
  assert.equal(response.status, 202, JSON.stringify(answer))
  return /** @type {Job} */ (answer)
}

/**
 * @param {number} count
 * @param {Record<string, unknown>} body
 */
async function submitMany(count, body) {
  return await Promise.all(Array.from({ length: count }, (_, seed) => submit({ prompt: 'a green tree on a hill', seed, ...body })))
}

/** @param {{ id: string }[]} jobs */
async function allSucceed(jobs) {
  for (const { id } of jobs) {
    const job = await untilEnded(id)
    assert.equal(job.status, 'succeeded', `job ${id}: ${JSON.stringify(job.error)}`)
  }
}

/** @param {string} id */
async function untilEnded(id) {
  const deadline = Date.now() + jobLimitMs
  for (;;) {
    const job = /** @type {Job} */ (await getJson(`${api}/v1/jobs/${id}`))
    if (job.completed_at !== null) return job
    assert.ok(Date.now() < deadline, `Expected job ${id} to end, got ${JSON.stringify(job)}`)
    await sleep(250)
  }
}

/**
 * @param {string} url
 * @returns {Promise<unknown>}
 */
async function getJson(url) {
  const response = await fetch(url)
  assert.equal(response.status, 200, `${url}: ${response.status}`)
  return await response.json()
}

/**
 * A field of a job's record that the api does not show.
 * @param {string} id
 * @param {string} field
 */
async function recordField(id, field) {
  return (await compose('exec', '-T', 'redis', 'redis-cli', 'HGET', `{easel}:job:${id}`, field)).trim()
}

async function workerContainers() {
  return (await compose('ps', '--quiet', 'gpu-worker')).trim().split(/\s+/).sort()
}

/** @param {string} container */
async function untilHealthy(container) {
  const deadline = Date.now() + startLimitS * 1000
  for (;;) {
    const { stdout } = await run('docker', ['inspect', '--format', '{{.State.Health.Status}}', container])
    if (stdout.trim() === 'healthy') return
    assert.ok(Date.now() < deadline, `Expected ${container} to become healthy, got ${stdout.trim()}`)
    await sleep(500)
  }
}

/**
 * @param {string} name
 * @param {() => Promise<void>} body
 */
async function check(name, body) {
  const startedAt = performance.now()
  await body()
  console.log(`ok  ${name} (${((performance.now() - startedAt) / 1000).toFixed(1)} s)`)
}

/** @param {string[]} args */
async function compose(...args) {
  return (await run('docker', ['compose', '-p', project, '-f', 'docker-compose.yml', ...args])).stdout
}

/**
 * @param {string} command
 * @param {string[]} args
 * @param {{ mayFail?: boolean }} options
 */
async function run(command, args, { mayFail = false } = {}) {
  const child = spawn(command, args, { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text))
  const [code] = await once(child, 'close')
  if (code !== 0 && !mayFail) throw new Error(`${command} ${args.join(' ')} ended with ${code}\n${stdout}${stderr}`)
  return { stdout, stderr }
}

/** @param {number} exitCode */
async function end(exitCode) {
  const down = ['compose', '-p', project, 'down', '--volumes', '--remove-orphans', '--timeout', '10']
  const { stderr } = await run('docker', down, { mayFail: true })
  const label = `label=com.docker.compose.project=${project}`
  const { stdout: left } = await run('docker', ['ps', '--all', '--quiet', '--filter', label], { mayFail: true })
  if (left !== '') console.error(`Containers of ${project} are left:\n${left}${stderr}`)
  process.exit(exitCode === 0 && left !== '' ? 1 : exitCode)
}

/** @returns {Promise<number>} */
async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  server.close()
  await once(server, 'close')
  return port
}
