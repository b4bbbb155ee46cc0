/** `easel doctor`: examines what Easel needs on this machine and says how to solve each problem. Exits with 1 when there is one. */
import { setTimeout as sleep } from 'node:timers/promises'
import { defaultModel } from '@easel/contract'
import { examineDevice, examineMemory } from '../doctor/examine-device.ts'
import { examineModels } from '../doctor/examine-models.ts'
import { examineRedis } from '../doctor/examine-redis.ts'
import { examineStorage } from '../doctor/examine-storage.ts'
import type { Finding } from '../doctor/finding.ts'
import { paint } from '../terminal/say.ts'

const limitMs = 15_000
const marks = { ok: { sign: '✓', colour: 'green' }, warn: { sign: '!', colour: 'yellow' }, bad: { sign: '✗', colour: 'red' } } as const

export async function doctor(modelsDir: string, { json = false }: { json?: boolean }): Promise<number> {
  const { env } = process
  const model = env['MODEL'] || env['MODEL_PATH'] || defaultModel
  const { findings: models, modelBytes } = await examineModels(modelsDir, model, env['MODEL_PARTS'] || undefined)
  const findings: Finding[] = [
    { subject: 'node', state: 'ok', says: process.version },
    ...(await examineDevice(env['DEVICE'] || 'auto')),
    examineMemory(modelBytes),
    ...(await within('redis', examineRedis(env))),
    ...(await within('storage', examineStorage(env))),
    ...models,
  ]
  if (json) console.log(JSON.stringify(findings, undefined, 2))
  else for (const finding of findings) console.log(toLines(finding))
  return findings.some(({ state }) => state === 'bad') ? 1 : 0
}

/** A server that accepts a connection and never answers is also a problem to report. */
async function within(subject: string, examination: Promise<Finding[]>): Promise<Finding[]> {
  const late = sleep(limitMs, undefined, { ref: false }).then((): Finding[] => [
    { subject, state: 'bad', says: `it has not answered within ${limitMs / 1000} s` },
  ])
  return await Promise.race([examination, late])
}

function toLines({ subject, state, says, mend }: Finding): string {
  const { sign, colour } = marks[state]
  const line = `${paint(colour, sign, process.stdout)} ${subject.padEnd(8)} ${says}`
  return mend === undefined ? line : `${line}\n  ${' '.repeat(9)}→ ${mend}`
}
