/** Two groups of workers that serve different models behind one api: who runs what, what is listed, and what remains when a worker vanishes. */
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Capabilities, Problem } from '@easel/contract'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'
import { startService } from './start-service.ts'
import type { Service } from './start-service.ts'

const tinyScenes = fileURLToPath(new URL('../../../models/tiny-scenes', import.meta.url))
let models: string
let service: Service

beforeAll(async () => {
  models = await mkdtemp(join(tmpdir(), 'easel-models-'))
  await cp(tinyScenes, join(models, 'small-scenes'), { recursive: true })
  await writeFile(join(models, 'small-scenes', 'generation_config.json'), JSON.stringify({ width: 64, height: 64, num_inference_steps: 3 }))
  service = await startService()
})

afterAll(async () => {
  await service.close()
  await rm(models, { recursive: true })
})

async function capabilities(): Promise<Capabilities> {
  return (await (await service.get('/v1/capabilities')).json()) as Capabilities
}

test('each job goes to a worker of its model, a job for another model is refused, and a model whose workers are gone is still listed', async () => {
  await service.startWorker()
  const second = await service.startWorker({ MODEL: join(models, 'small-scenes') })

  expect((await capabilities()).models.map(({ id, workers, defaults }) => [id, workers, defaults.width])).toEqual([
    ['small-scenes', 1, 64],
    ['tiny-scenes', 1, 128],
  ])

  const ids = await Promise.all(
    [{}, { model: 'small-scenes' }, { model: 'tiny-scenes', num_inference_steps: 3 }].map((body) =>
      service.submit({ prompt: 'a red boat', ...body }),
    ),
  )
  const jobs = await Promise.all(ids.map((id) => service.untilEnded(id)))
  expect(jobs.map(({ status, input, output }) => [status, input.model, output?.images[0]?.width])).toEqual([
    ['succeeded', 'tiny-scenes', 128],
    ['succeeded', 'small-scenes', 64],
    ['succeeded', 'tiny-scenes', 128],
  ])
  expect(jobs.map(({ receipt }) => receipt?.model.id)).toEqual(['tiny-scenes', 'small-scenes', 'tiny-scenes'])

  const refused = await service.post('/v1/jobs', { prompt: 'a red boat', model: 'nobody' })
  expect(refused.status).toBe(422)
  const problem = (await refused.json()) as Problem
  expect(problem.code).toBe('model_not_found')
  expect(problem.detail).toMatch(/small-scenes.*tiny-scenes/)

  second.child.kill('SIGKILL')
  await second.ended
  // Its heartbeat expires, but the model's record stays, so jobs wait for the next worker.
  await vi.waitFor(async () => expect((await capabilities()).models.map(({ workers }) => workers)).toEqual([0, 1]), {
    timeout: 120_000,
    interval: 500,
  })
  const waiting = await service.submit({ prompt: 'a red boat', model: 'small-scenes' })
  expect((await service.job(waiting)).status).toBe('queued')
})
