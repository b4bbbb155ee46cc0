/** What the compose files and Dockerfiles say, against what the services are. Whether it all runs: `npm run test:compose`. */
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
  stop_grace_period: z.string().optional(),
})
const composeSchema = z.looseObject({ services: z.record(z.string(), serviceSchema) })
const compose = composeSchema.parse(parse(read('docker-compose.yml'), { merge: true }))
const service = (name: string): z.infer<typeof serviceSchema> => serviceSchema.parse(compose.services[name])

/**
 * What the image or the compose file decides, so that the rest of it fits. MODEL_PATH is only another name for MODEL. Which GPU a container
 * has is said by docker-compose.gpu.yml, and an empty CUDA_VISIBLE_DEVICES would hide it.
 */
const decidedHere = new Set(['HOST', 'MODEL_PATH', 'STORAGE_DIR', 'CUDA_VISIBLE_DEVICES'])

describe.each([
  ['api', apiVariables],
  ['gpu-worker', workerVariables],
] as const)('%s in docker-compose.yml', (name, variables) => {
  const environment = service(name).environment

  it('passes on every variable that the service has', () => {
    expect(Object.keys(variables).filter((variable) => !(variable in environment) && !decidedHere.has(variable))).toEqual([])
  })

  it('passes on nothing that the service does not know', () => {
    // Both read what is in the shared part; each ignores what only the other one knows.
    const known = new Set([...Object.keys(apiVariables), ...Object.keys(workerVariables)])
    expect(Object.keys(environment).filter((variable) => !known.has(variable))).toEqual([])
  })

  it('starts from an image that copies every workspace package the service needs', () => {
    const copied = [...read(`services/${name}/Dockerfile`).matchAll(/^COPY (packages\/\S+) /gm)].map((match) => match[1] ?? '')
    expect([...new Set(copied)].sort()).toEqual([...workspacePackages(`services/${name}`)].sort())
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

  it('lets workers be scaled: no container name, no host port', () => {
    expect(service('gpu-worker')).not.toHaveProperty('container_name')
    expect(service('gpu-worker').ports).toEqual([])
  })

  it('works with old and new Compose: no version, no name, no default inside a default', () => {
    expect(Object.keys(compose)).not.toContain('version')
    expect(Object.keys(compose)).not.toContain('name')
    expect(read('docker-compose.yml')).not.toMatch(/\$\{[^}]*\$\{/)
  })

  it('mounts only files that are there', () => {
    const mounted = [...read('docker-compose.yml').matchAll(/'\.\/(deploy\/[^:']+):/g)].map((match) => match[1] ?? '')
    expect(mounted.length).toBeGreaterThan(0)
    expect(mounted.filter((path) => !existsSync(join(root, path)))).toEqual([])
  })
})

/** Folders of the workspace packages that a package depends on, directly or not. */
function workspacePackages(folder: string, found = new Set<string>()): Set<string> {
  const { dependencies } = z.object({ dependencies: z.record(z.string(), z.string()) }).parse(JSON.parse(read(`${folder}/package.json`)))
  for (const [name, version] of Object.entries(dependencies)) {
    const path = name.replace('@easel/', 'packages/')
    if (!version.startsWith('workspace:') || found.has(path)) continue
    found.add(path)
    workspacePackages(path, found)
  }
  return found
}
