/** Prometheus' own tests of the alert rules, and a check that they leave none out. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { parse } from 'yaml'
import { z } from 'zod'

const folder = join(import.meta.dirname, '../prometheus')
const read = (file: string): unknown => parse(readFileSync(join(folder, file), 'utf8'))
const promtool = spawnSync('promtool', ['--version']).error === undefined
if (!promtool) process.stderr.write('SKIPPED: the tests of the alert rules, because there is no `promtool` on PATH\n')

const rulesSchema = z.object({ groups: z.array(z.object({ rules: z.array(z.object({ alert: z.string() })) })) })
const testsSchema = z.object({
  tests: z.array(z.object({ alert_rule_test: z.array(z.object({ alertname: z.string(), exp_alerts: z.array(z.unknown()).optional() })) })),
})

it('every alert is tested both when it should fire and when it should not', () => {
  const alerts = rulesSchema.parse(read('alerts.yml')).groups.flatMap(({ rules }) => rules.map(({ alert }) => alert))
  const cases = testsSchema.parse(read('alerts.test.yml')).tests.flatMap((test) => test.alert_rule_test)
  const named = (firing: boolean): Set<string> =>
    new Set(cases.flatMap(({ alertname, exp_alerts: expected }) => ((expected === undefined) === firing ? [] : [alertname])))
  expect(named(true)).toEqual(new Set(alerts))
  expect(named(false)).toEqual(new Set(alerts))
})

it.skipIf(!promtool)('promtool finds that each alert fires when it should, and only then (skipped without promtool)', () => {
  const { status, stdout, stderr } = spawnSync('promtool', ['test', 'rules', 'alerts.test.yml'], { cwd: folder, encoding: 'utf8' })
  expect(status, `${stdout}${stderr}`).toBe(0)
})
