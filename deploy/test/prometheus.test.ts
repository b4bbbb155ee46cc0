/**
 * A real Prometheus scrapes a real api and a real worker. Every query of the dashboard must give data, and every rule must ask for series that exist,
 * with the right labels. Skipped, with a message, where Prometheus is not installed (Debian: `apt install prometheus`). The dashboard itself is not
 * opened in a Grafana here.
 */
import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'
import { findFreePort } from '../../packages/job-store/test/redis-server.ts'
import { startService } from '../../services/api/test/start-service.ts'
import type { Service } from '../../services/api/test/start-service.ts'

const installed = spawnSync('prometheus', ['--version']).error === undefined
if (!installed) process.stderr.write('SKIPPED: the test with a real Prometheus, because there is no `prometheus` on PATH\n')

const deploy = join(import.meta.dirname, '..')
const read = (path: string): string => readFileSync(join(deploy, path), 'utf8')

const targetsSchema = z.object({ targets: z.array(z.object({ expr: z.string() })).optional() })
const dashboardSchema = z.object({ panels: z.array(targetsSchema.extend({ panels: z.array(targetsSchema).optional() })) })
const rulesSchema = z.object({ groups: z.array(z.object({ rules: z.array(z.object({ expr: z.string() })) })) })
const answerSchema = z.object({
  status: z.string(),
  error: z.string().optional(),
  data: z.object({ result: z.array(z.object({ value: z.tuple([z.number(), z.string()]) })) }).optional(),
})

const panels = dashboardSchema.parse(JSON.parse(read('grafana/dashboards/easel.json'))).panels
const dashboardQueries = [
  ...new Set(panels.flatMap((panel) => [panel, ...(panel.panels ?? [])].flatMap(({ targets = [] }) => targets.map(({ expr }) => expr)))),
]
const alertQueries = rulesSchema.parse(parse(read('prometheus/alerts.yml'))).groups.flatMap(({ rules }) => rules.map(({ expr }) => expr))

let service: Service
let prometheus: ChildProcess
let dir: string
let port: number

/** The values of all series. */
async function query(expr: string): Promise<number[]> {
  const response = await fetch(`http://127.0.0.1:${port}/api/v1/query?${new URLSearchParams({ query: expr }).toString()}`)
  const { status, error, data } = answerSchema.parse(await response.json())
  if (status !== 'success') throw new Error(`Expected ${expr} to be a query, got: ${error ?? status}`)
  return (data?.result ?? []).map(({ value: [, value] }) => Number(value))
}

/** What a query asks for: the names of metrics with their labels, without functions, operators, groupings and ranges. */
function selectorsOf(expr: string): string[] {
  const grouping = /\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)/g
  const words = expr.replaceAll(grouping, '').match(/\b[a-z_][a-z0-9_]*\b(?:\{[^}]*\})?(?!\s*\()/g) ?? []
  return words.filter((word) => !['and', 'or', 'unless'].includes(word))
}

test('every query of the dashboard and the rules names series', () => {
  expect(selectorsOf('sum by (a) (rate(b{c!="d"}[5m])) > 3 unless on (a) max by (a) (e) > 0')).toEqual(['b{c!="d"}', 'e'])
  expect([...dashboardQueries, ...alertQueries].filter((expr) => selectorsOf(expr).length === 0)).toEqual([])
})

describe.skipIf(!installed)('what Prometheus sees', () => {
  beforeAll(async () => {
    service = await startService()
    const metricsPort = await findFreePort()
    await service.startWorker({ METRICS_PORT: String(metricsPort) })
    dir = await mkdtemp(join(tmpdir(), 'easel-prometheus-'))
    port = await findFreePort()
    const scrape = (job: string, target: string) => ({ job_name: job, static_configs: [{ targets: [target] }] })
    const config = {
      global: { scrape_interval: '1s', evaluation_interval: '1s' },
      rule_files: [join(deploy, 'prometheus/alerts.yml')],
      scrape_configs: [scrape('api', new URL(service.api.url).host), scrape('gpu-worker', `127.0.0.1:${metricsPort}`)],
    }
    await writeFile(join(dir, 'prometheus.yml'), JSON.stringify(config))
    const files = [`--config.file=${join(dir, 'prometheus.yml')}`, `--storage.tsdb.path=${join(dir, 'data')}`]
    prometheus = spawn('prometheus', [...files, `--web.listen-address=127.0.0.1:${port}`], { stdio: 'ignore' })
    const bothUp = async (): Promise<void> => expect(await query('up == 1')).toHaveLength(2)
    await vi.waitFor(bothUp, { timeout: 60_000, interval: 200 })
    // A picture, a failure, a webhook that is refused once, and everything once more after Prometheus has seen it, because a rate needs a change.
    for (const seed of [1, 2]) {
      const body = {
        prompt: 'a red boat',
        num_inference_steps: 4,
        width: 64,
        height: 64,
        seed,
        webhook: seed === 1 ? service.webhook() : service.webhook(500),
      }
      await service.untilEnded(await service.submit(body))
      await service.post('/v1/jobs', {})
      const since = Date.now() / 1000
      const scraped = async (): Promise<void> => expect((await query('timestamp(up)')).map((at) => at > since)).toEqual([true, true])
      await vi.waitFor(scraped, { timeout: 60_000, interval: 200 })
    }
  })
  afterAll(async () => {
    if (prometheus !== undefined) {
      const ended = once(prometheus, 'exit')
      prometheus.kill()
      await ended
      await rm(dir, { recursive: true, force: true })
    }
    await service?.close()
  })

  test.for(dashboardQueries)('the dashboard query %s gives data', async (expr) => {
    const hasData = async (): Promise<void> => expect((await query(expr)).some(Number.isFinite)).toBe(true)
    await vi.waitFor(hasData, { timeout: 120_000, interval: 250 })
  })

  test.for([...new Set([...dashboardQueries, ...alertQueries].flatMap(selectorsOf))])('there are series for %s', async (selector) => {
    const exists = async (): Promise<void> => expect(await query(selector)).not.toEqual([])
    await vi.waitFor(exists, { timeout: 60_000, interval: 250 })
  })

  test('every metric of ours has a panel and a place in the documentation', async () => {
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/label/__name__/values`)
    const { data } = z.object({ data: z.array(z.string()) }).parse(await response.json())
    const own = data.filter((name) => !/^(nodejs|process|scrape)_|^(up|ALERTS|ALERTS_FOR_STATE)$/.test(name))
    const names = [...new Set(own.map((name) => name.replace(/_(bucket|sum|count)$/, '')))]
    expect(names.length).toBeGreaterThan(20)
    const page = read('../docs/watch.md')
    expect(names.filter((name) => !page.includes(`\`${name}`))).toEqual([])
    expect(names.filter((name) => !dashboardQueries.some((expr) => expr.includes(name)))).toEqual([])
  })

  test('no alert fires on a service that is well', async () => {
    expect(await query('ALERTS{alertstate="firing"}')).toEqual([])
  })
})
