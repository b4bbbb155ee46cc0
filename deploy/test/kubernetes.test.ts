/** The Kubernetes manifests against the schemas of Kubernetes and KEDA, and against each other. Needs no cluster. */
import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Deployment } from 'kubernetes-models/apps/v1'
import { NetworkPolicy } from 'kubernetes-models/networking.k8s.io/v1'
import { PodDisruptionBudget } from 'kubernetes-models/policy/v1'
import { ConfigMap, Namespace, PersistentVolumeClaim, Secret, Service } from 'kubernetes-models/v1'
import { ScaledObject } from '@kubernetes-models/keda/keda.sh/v1alpha1'
import { parseAllDocuments } from 'yaml'
import { z } from 'zod'
import { apiVariables } from '../../services/api/src/config.ts'
import { workerVariables } from '../../services/gpu-worker/src/config.ts'

const folder = join(import.meta.dirname, '../kubernetes')

const models: Record<string, new (manifest?: never) => { validate(): void }> = {
  'apps/v1 Deployment': Deployment,
  'keda.sh/v1alpha1 ScaledObject': ScaledObject,
  'networking.k8s.io/v1 NetworkPolicy': NetworkPolicy,
  'policy/v1 PodDisruptionBudget': PodDisruptionBudget,
  'v1 ConfigMap': ConfigMap,
  'v1 Namespace': Namespace,
  'v1 PersistentVolumeClaim': PersistentVolumeClaim,
  'v1 Secret': Secret,
  'v1 Service': Service,
}

const manifestSchema = z.looseObject({
  apiVersion: z.string(),
  kind: z.string(),
  metadata: z.looseObject({ name: z.string() }),
})
const kustomizationSchema = z.strictObject({
  apiVersion: z.literal('kustomize.config.k8s.io/v1beta1'),
  kind: z.literal('Kustomization'),
  namespace: z.literal('easel'),
  labels: z.array(z.strictObject({ pairs: z.record(z.string(), z.string()) })).optional(),
  resources: z.array(z.string()),
  images: z.array(z.strictObject({ name: z.string(), newName: z.string(), newTag: z.string() })).optional(),
})
const labels = z.record(z.string(), z.string())
const podSchema = z.looseObject({
  terminationGracePeriodSeconds: z.number(),
  containers: z.tuple([
    z.looseObject({
      image: z.string(),
      env: z.array(z.object({ name: z.string() })).default([]),
      ports: z.array(z.object({ name: z.string(), containerPort: z.number() })),
    }),
  ]),
})
const workloadSchema = z.object({
  spec: z.object({
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

  it('is one object of its file, named in the kustomization of its folder, and every name there is a file', () => {
    for (const name of ['base', 'example']) {
      const { resources } = kustomizationSchema.parse(parse(join(name, 'kustomization.yaml'))[0])
      const files = readdirSync(join(folder, name)).filter((file) => file !== 'kustomization.yaml')
      expect(resources.filter((resource) => resource !== '../base').sort()).toEqual(files.sort())
    }
    expect(new Set(manifests.map(({ file }) => file)).size).toBe(manifests.length)
  })
})

const kubectl = spawnSync('kubectl', ['version', '--client']).status === 0

it.skipIf(!kubectl)('kustomize puts them all together (skipped without kubectl)', () => {
  const { status, stdout, stderr } = spawnSync('kubectl', ['kustomize', join(folder, 'example')], { encoding: 'utf8' })
  expect(status, `${stdout}${stderr}`).toBe(0)
  expect(parseAllDocuments(stdout)).toHaveLength(manifests.length)
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

  it('has longer to end than SHUTDOWN_GRACE', () => {
    const variables = name === 'api' ? apiVariables : workerVariables
    expect(pod.terminationGracePeriodSeconds).toBeGreaterThan(variables.SHUTDOWN_GRACE.parse(undefined))
  })

  it('is set only variables that the services know', () => {
    const data = find('ConfigMap', 'easel').content['data']
    const secrets = find('Secret', 'easel').content['stringData']
    const known = new Set([...Object.keys(apiVariables), ...Object.keys(workerVariables)])
    const set = [
      ...container.env.map((variable) => variable.name),
      ...Object.keys(labels.parse(data)),
      ...Object.keys(labels.parse(secrets)),
    ]
    expect(set.filter((variable) => !known.has(variable))).toEqual([])
  })

  it('is scraped on a port that it has', () => {
    expect(container.ports.map(({ containerPort }) => String(containerPort))).toContain(
      spec.template.metadata.annotations['prometheus.io/port'],
    )
  })
})

describe('gpu-worker', () => {
  it('is scaled by the GPU-seconds that wait, and by nothing else', () => {
    expect(find('ScaledObject', 'gpu-worker').content['spec']).toMatchObject({
      scaleTargetRef: { kind: 'Deployment', name: 'gpu-worker' },
      triggers: [{ type: 'prometheus', metadata: { query: 'max(gpu_seconds_queued)' } }],
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
  it.each(['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', '127.0.0.0/8', '169.254.0.0/16', '100.64.0.0/10', 'fc00::/7', 'fe80::/10'])(
    'cannot reach %s',
    (range) => {
      const ruleSchema = z.object({
        spec: z.object({
          egress: z.array(z.object({ to: z.array(z.object({ ipBlock: z.object({ except: z.array(z.string()) }).optional() })).min(1) })),
        }),
      })
      const { egress } = ruleSchema.parse(find('NetworkPolicy', 'api').content).spec
      const excepted = egress.flatMap(({ to }) => to.flatMap(({ ipBlock }) => ipBlock?.except ?? []))
      expect(excepted).toContain(range)
    },
  )
})

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
