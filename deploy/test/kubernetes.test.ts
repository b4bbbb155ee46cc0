/** Checks the Kubernetes manifests against the schemas of Kubernetes and KEDA, and against each other. Needs no cluster. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { BlockList, isIPv6 } from 'node:net'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Deployment } from 'kubernetes-models/apps/v1'
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1'
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1'
import { ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service } from 'kubernetes-models/v1'
import { ScaledObject } from '@kubernetes-models/keda/keda.sh/v1alpha1'
import { parseAllDocuments } from 'yaml'
import { z } from 'zod'
import { apiVariables } from '../../services/api/src/config.ts'
import { workerVariables } from '../../services/gpu-worker/src/config.ts'
import { deniedRanges } from '../../services/api/src/outbound/judge-url.ts'

const folder = join(import.meta.dirname, '../kubernetes')

const models: Record<string, new (manifest?: never) => { validate(): void }> = {
  'apps/v1 Deployment': Deployment,
  'keda.sh/v1alpha1 ScaledObject': ScaledObject,
  'networking.k8s.io/v1 NetworkPolicy': NetworkPolicy,
  'policy/v1 PodDisruptionBudget': PodDisruptionBudget,
  'v1 ConfigMap': ConfigMap,
  'v1 Namespace': Namespace,
  'v1 PersistentVolumeClaim': PersistentVolumeClaim,
  'v1 Pod': Pod,
  'v1 Secret': Secret,
  'v1 Service': Service,
}

const folders = ['base', 'gpu-worker', 'example', 'two-models', 'two-models/large']

const manifestSchema = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string() }),
})
const kustomizationSchema = z.strictObject({
  apiVersion: z.literal('kustomize.config.k8s.io/v1beta1'),
  kind: z.literal('Kustomization'),
  namespace: z.literal('easel'),
  nameSuffix: z.string().optional(),
  labels: z.array(z.strictObject({ pairs: z.record(z.string(), z.string()), includeSelectors: z.boolean().optional() })).optional(),
  resources: z.array(z.string()),
  configMapGenerator: z
    .tuple([
      z.strictObject({
        name: z.literal('easel'),
        namespace: z.literal('easel'),
        behavior: z.literal('merge').optional(),
        literals: z.array(z.string()),
      }),
    ])
    .optional(),
  patches: z.array(z.strictObject({ target: z.record(z.string(), z.string()), patch: z.string() })).optional(),
  images: z.array(z.strictObject({ name: z.string(), newName: z.string(), newTag: z.string() })).optional(),
})
const labels = z.record(z.string(), z.string())
const probeSchema = z.looseObject({ periodSeconds: z.number(), failureThreshold: z.number() })
const podSchema = z.looseObject({
  terminationGracePeriodSeconds: z.number(),
  volumes: z.array(z.looseObject({ name: z.string() })),
  containers: z.tuple([
    z.looseObject({
      image: z.string(),
      env: z.array(z.object({ name: z.string(), value: z.string() })).default([]),
      envFrom: z.array(z.record(z.string(), z.object({ name: z.string() }))),
      startupProbe: probeSchema,
      volumeMounts: z.array(z.looseObject({ name: z.string(), mountPath: z.string() })),
      ports: z.array(z.object({ name: z.string(), containerPort: z.number() })),
    }),
  ]),
})
const workloadSchema = z.object({
  spec: z.object({
    progressDeadlineSeconds: z.number(),
    selector: z.object({ matchLabels: labels }),
    template: z.object({ metadata: z.object({ labels, annotations: labels }), spec: podSchema }),
  }),
})

interface Manifest {
  file: string
  key: string
  content: z.infer<typeof manifestSchema>
}

const manifests: Manifest[] = yamlFiles()
  .filter((file) => !file.endsWith('kustomization.yaml'))
  .flatMap((file) =>
    parse(file).map((document) => {
      const content = manifestSchema.parse(document)
      return { file, key: `${content.apiVersion} ${content.kind}`, content }
    }),
  )

describe('each manifest', () => {
  it.each(manifests)('$file is a $key by the schema of its kind', ({ key, content }) => {
    expect(() => validate(key, content)).not.toThrow()
  })

  it('is refused when a field has the wrong type', () => {
    const deployment = structuredClone(find('Deployment', 'api').content)
    Object.assign(deployment['spec'] as object, { replicas: 'two' })
    expect(() => validate('apps/v1 Deployment', deployment)).toThrow(/replicas/)
  })

  it('is the only object in its file and is named in the kustomization of its folder, where every other name is a folder with a kustomization', () => {
    for (const name of folders) {
      const { resources } = readKustomization(name)
      const files = readdirSync(join(folder, name)).filter((file) => file.endsWith('.yaml') && file !== 'kustomization.yaml')
      expect(resources.filter((resource) => resource.endsWith('.yaml')).sort()).toEqual(files.sort())
      const others = resources.filter((resource) => !resource.endsWith('.yaml'))
      expect(others.filter((other) => !existsSync(join(folder, name, other, 'kustomization.yaml')))).toEqual([])
    }
    expect(new Set(manifests.map(({ file }) => file)).size).toBe(manifests.length)
  })
})

const kubectl = spawnSync('kubectl', ['version', '--client']).status === 0

describe.skipIf(!kubectl)('what kustomize builds (skipped without kubectl)', () => {
  it('contains every manifest of base, gpu-worker and example, and its pods refer to the settings by a name that changes with them', () => {
    const built = build('example')
    // The settings are generated, and the models loader is not part of it.
    expect(built).toHaveLength(manifests.length)
    for (const { apiVersion, kind, ...rest } of built) validate(`${apiVersion} ${kind}`, { apiVersion, kind, ...rest })
    const settings = built.find(({ kind }) => kind === 'ConfigMap')?.metadata.name
    expect(settings).toMatch(/^easel-[a-z0-9]{10}$/)
    for (const name of ['api', 'gpu-worker']) expect(containerOf(built, name).envFrom).toContainEqual({ configMapRef: { name: settings } })
  })

  it('may contain a second group of workers, which shares no label, name or query with the first and serves another model', () => {
    const built = build('two-models')
    const groups = ['gpu-worker', 'gpu-worker-large']
    for (const kind of ['Deployment', 'Service', 'PodDisruptionBudget', 'NetworkPolicy', 'ScaledObject'])
      expect(built.filter((each) => each.kind === kind && groups.includes(each.metadata.name))).toHaveLength(2)
    for (const name of groups) {
      const own = { 'app.kubernetes.io/name': name }
      const specOf = (kind: string): unknown => built.find((each) => each.kind === kind && each.metadata.name === name)?.['spec']
      expect(specOf('Deployment')).toMatchObject({ selector: { matchLabels: own }, template: { metadata: { labels: own } } })
      expect(specOf('PodDisruptionBudget')).toMatchObject({ selector: { matchLabels: own } })
      const model = name === 'gpu-worker' ? settingsOf('base')['MODEL'] : 'stabilityai/stable-diffusion-3.5-large'
      const query = `max(easel_gpu_seconds_queued{namespace="easel", model="${model}"})`
      expect(specOf('ScaledObject')).toMatchObject({ scaleTargetRef: { name }, triggers: [{ metadata: { query } }] })
    }
    expect(containerOf(built, 'gpu-worker-large').env).toContainEqual({ name: 'MODEL', value: 'stabilityai/stable-diffusion-3.5-large' })
    expect(containerOf(built, 'gpu-worker').env.map(({ name }) => name)).not.toContain('MODEL')
  })
})

describe.each(['api', 'gpu-worker'])('%s', (name) => {
  const { spec } = workloadSchema.parse(find('Deployment', name).content)
  const pod = spec.template.spec
  const [container] = pod.containers

  it('is selected by its own labels in Deployment, Service, budget and network policy', () => {
    const own = { 'app.kubernetes.io/name': name }
    expect(spec.selector.matchLabels).toEqual(own)
    expect(spec.template.metadata.labels).toMatchObject(own)
    expect(find('Service', name).content['spec']).toMatchObject({ selector: own })
    expect(find('PodDisruptionBudget', name).content['spec']).toMatchObject({ selector: { matchLabels: own } })
    expect(find('NetworkPolicy', name).content['spec']).toMatchObject({ podSelector: { matchLabels: own } })
  })

  it('runs as a user that is not root, with a read-only file system and no capabilities', () => {
    expect(pod).toMatchObject({ automountServiceAccountToken: false, securityContext: { runAsNonRoot: true, runAsUser: 1000 } })
    expect(container).toMatchObject({
      securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ['ALL'] } },
    })
  })

  it('gets more time to end than SHUTDOWN_GRACE', () => {
    const variables = name === 'api' ? apiVariables : workerVariables
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(variables.SHUTDOWN_GRACE.parse(undefined))
  })

  it('gets only variables that the services know', () => {
    const known = new Set([...Object.keys(apiVariables), ...Object.keys(workerVariables)])
    const set = [
      ...container.env.map((variable) => variable.name),
      ...Object.keys({ ...settingsOf('base'), ...settingsOf('example') }),
      ...secretsOf(container).flatMap((secret) => Object.keys(labels.parse(find('Secret', secret).content['stringData']))),
    ]
    expect(set.filter((variable) => !known.has(variable))).toEqual([])
  })

  it('counts as failed to roll out only when a worker has had longer than it may take to load', () => {
    const { periodSeconds, failureThreshold } = workloadSchema.parse(find('Deployment', 'gpu-worker').content).spec.template.spec
      .containers[0].startupProbe
    expect(spec.progressDeadlineSeconds).toBeGreaterThan(periodSeconds * failureThreshold)
  })

  it('is scraped on a port that it has', () => {
    expect(container.ports.map(({ containerPort }) => String(containerPort))).toContain(
      spec.template.metadata.annotations['prometheus.io/port'],
    )
  })
})

describe('gpu-worker', () => {
  it('gets no secret that only the api needs', () => {
    const secrets = secretsOf(workloadSchema.parse(find('Deployment', 'gpu-worker').content).spec.template.spec.containers[0])
    const got = secrets.flatMap((secret) => Object.keys(labels.parse(find('Secret', secret).content['stringData'])))
    expect(got.length).toBeGreaterThan(0)
    expect(got.filter((variable) => !(variable in workerVariables))).toEqual([])
  })

  it('has a place for the kernels that the driver compiles, though its root file system is read-only', () => {
    const path = /CUDA_CACHE_PATH=(\S+)/.exec(readFileSync(join(folder, '../../services/gpu-worker/Dockerfile'), 'utf8'))?.[1] ?? ''
    const { volumes, containers } = workloadSchema.parse(find('Deployment', 'gpu-worker').content).spec.template.spec
    const mount = containers[0].volumeMounts.find(({ mountPath }) => path.startsWith(`${mountPath}/`))
    expect(volumes.find(({ name }) => name === mount?.name)).toHaveProperty('emptyDir')
  })

  it('reads models from a claim that can be filled', () => {
    expect(find('PersistentVolumeClaim', 'easel-models').content['spec']).toMatchObject({ accessModes: ['ReadWriteMany'] })
    const { volumes } = z.object({ volumes: z.array(z.unknown()) }).parse(find('Pod', 'models-loader').content['spec'])
    expect(volumes).toEqual([{ name: 'models', persistentVolumeClaim: { claimName: 'easel-models' } }])
  })

  it('is scaled by the GPU-seconds of waiting work, and by nothing else', () => {
    expect(find('ScaledObject', 'gpu-worker').content['spec']).toMatchObject({
      scaleTargetRef: { kind: 'Deployment', name: 'gpu-worker' },
      triggers: [{ type: 'prometheus', metadata: { query: 'sum(max by (model) (easel_gpu_seconds_queued{namespace="easel"}))' } }],
    })
    expect(find('Deployment', 'gpu-worker').content['spec']).not.toHaveProperty('replicas')
  })

  it('has one GPU', () => {
    expect(workloadSchema.parse(find('Deployment', 'gpu-worker').content).spec.template.spec.containers[0]).toMatchObject({
      resources: { limits: { 'nvidia.com/gpu': 1 } },
    })
  })
})

describe('webhooks', () => {
  const ipBlockSchema = z.strictObject({ cidr: z.string(), except: z.array(z.string()) })
  const ruleSchema = z.object({ to: z.array(z.object({ ipBlock: ipBlockSchema.optional() })), ports: z.array(z.looseObject({})) })
  const { egress } = z.object({ egress: z.array(ruleSchema) }).parse(find('NetworkPolicy', 'api').content['spec'])
  const blocks = egress.flatMap(({ to }) => to.flatMap(({ ipBlock }) => (ipBlock === undefined ? [] : [ipBlock])))
  const denied = [...deniedRanges, '10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '127.0.0.0/8']

  it.each([...denied, '169.254.0.0/16', '100.64.0.0/10', 'fc00::/7', 'fe80::/10'])('cannot reach %s', (range) => {
    expect(blocks.flatMap(({ except }) => except)).toContain(range)
  })

  it('reach public addresses on every port that a webhook may name', () => {
    const rule = egress.find(({ to }) => to.some(({ ipBlock }) => ipBlock !== undefined))
    expect(rule?.ports).toEqual([{ protocol: 'TCP' }])
  })

  // Otherwise an API server refuses the whole policy. It considers ::ffff:0:0/96 to be IPv4, which is in no IPv6 range.
  it.each(blocks.flatMap(({ cidr, except }) => except.map((range) => ({ range, cidr }))))(
    '$range is a part of $cidr',
    ({ range, cidr }) => {
      const [outer, inner] = [toNetwork(cidr), toNetwork(range)]
      expect(inner.family).toBe(outer.family)
      expect(inner.prefix).toBeGreaterThan(outer.prefix)
      expect(contains(outer, inner.address)).toBe(true)
      expect(contains(toNetwork('::ffff:0:0/96'), inner.address)).toBe(inner.family === 'ipv4')
    },
  )
})

interface Network {
  address: string
  prefix: number
  family: 'ipv4' | 'ipv6'
}

function toNetwork(cidr: string): Network {
  const [address = '', prefix] = cidr.split('/')
  return { address, prefix: Number(prefix), family: isIPv6(address) ? 'ipv6' : 'ipv4' }
}

function contains({ address, prefix, family }: Network, other: string): boolean {
  const list = new BlockList()
  list.addSubnet(address, prefix, family)
  return list.check(other, isIPv6(other) ? 'ipv6' : 'ipv4')
}

function readKustomization(name: string): z.infer<typeof kustomizationSchema> {
  return kustomizationSchema.parse(parse(join(name, 'kustomization.yaml'))[0])
}

/** The content of a folder's ConfigMap. */
function settingsOf(name: string): Record<string, string> {
  const [{ literals }] = readKustomization(name).configMapGenerator ?? [{ literals: [] }]
  return Object.fromEntries(literals.map((literal) => [literal.slice(0, literal.indexOf('=')), literal.slice(literal.indexOf('=') + 1)]))
}

function secretsOf({ envFrom }: z.infer<typeof podSchema>['containers'][0]): string[] {
  return envFrom.flatMap(({ secretRef }) => (secretRef === undefined ? [] : [secretRef.name]))
}

function build(name: string): z.infer<typeof manifestSchema>[] {
  const { status, stdout, stderr } = spawnSync('kubectl', ['kustomize', join(folder, name)], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`Expected kustomize to build ${name}, got ${stdout}${stderr}`)
  return parseAllDocuments(stdout).map((document) => manifestSchema.parse(document.toJS()))
}

function containerOf(built: z.infer<typeof manifestSchema>[], name: string): z.infer<typeof podSchema>['containers'][0] {
  const deployment = built.find(({ kind, metadata }) => kind === 'Deployment' && metadata.name === name)
  return workloadSchema.parse(deployment).spec.template.spec.containers[0]
}

function validate(key: string, content: object): void {
  const Model = models[key]
  if (Model === undefined) throw new Error(`Expected a kind that there is a schema for, got ${key}`)
  new Model(content as never).validate()
}

function yamlFiles(): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.yaml'))
}

function parse(file: string): unknown[] {
  return parseAllDocuments(readFileSync(join(folder, file), 'utf8')).map((document) => {
    if (document.errors.length > 0) throw new Error(`Expected YAML in ${file}, got ${document.errors.join(', ')}`)
    return document.toJS() as unknown
  })
}

function find(kind: string, name: string): Manifest {
  const found = manifests.find(({ content }) => content.kind === kind && content.metadata.name === name)
  if (found === undefined) throw new Error(`Expected a ${kind} named ${name}, got none`)
  return found
}
