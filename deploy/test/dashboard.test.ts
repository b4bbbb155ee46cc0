/** What can be tested about the dashboard without Grafana. prometheus.test.ts checks that its queries return data. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { z } from 'zod'

const panelSchema = z.object({
  id: z.int(),
  type: z.enum(['row', 'stat', 'timeseries']),
  title: z.string(),
  gridPos: z.object({ x: z.int(), y: z.int(), w: z.int(), h: z.int() }),
  fieldConfig: z.object({ defaults: z.object({ unit: z.string() }) }).optional(),
  targets: z.array(z.object({ refId: z.string(), expr: z.string(), legendFormat: z.string() })).optional(),
})
const file = join(import.meta.dirname, '../grafana/dashboards/easel.json')
const { panels } = z.object({ panels: z.array(panelSchema) }).parse(JSON.parse(readFileSync(file, 'utf8')))

it('the dashboard has its panels in four rows, each with an id of its own, a unit and a query', () => {
  expect(panels.filter(({ type }) => type === 'row').map(({ title }) => title)).toEqual(['Service', 'Queue', 'Engine', 'Webhooks'])
  expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length)
  const drawn = panels.filter(({ type }) => type !== 'row')
  expect(drawn.filter(({ fieldConfig, targets = [] }) => fieldConfig === undefined || targets.length === 0)).toEqual([])
})

it('the dashboard has no panel that covers another or extends beyond the 24 columns of the grid', () => {
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }) =>
    Array.from({ length: w * h }, (_, i) => `${x + (i % w)},${y + Math.floor(i / w)}`),
  )
  expect(new Set(cells).size).toBe(cells.length)
  expect(panels.filter(({ gridPos: { x, w } }) => x < 0 || x + w > 24)).toEqual([])
})
