/** Weight files that are written to, replaced or removed while the model is in use. */
import { createHash } from 'node:crypto'
import { cp, mkdtemp, readFile, rename, rm, truncate, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, it } from 'vitest'
import { testModel } from '../../test/open-graph.ts'
import { ModelChangedError } from '../models/loaded-files.ts'
import type { GenerateParams } from './generate-params.ts'
import { StableDiffusion3Pipeline } from './pipeline.ts'
import type { FromPretrainedOptions } from './pipeline.ts'

const call = { prompt: 'a red boat', width: 32, height: 32, numInferenceSteps: 2, seed: 5 }

let folder: string
let pipe: StableDiffusion3Pipeline | undefined
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-changed-'))
  await cp(testModel('sd35-medium-kind'), folder, { recursive: true })
})
afterEach(async () => {
  await pipe?.close()
  pipe = undefined
  await rm(folder, { recursive: true })
})

async function load(options: FromPretrainedOptions, model = folder): Promise<StableDiffusion3Pipeline> {
  return (pipe = await StableDiffusion3Pipeline.fromPretrained(model, { device: 'cpu', ...options }))
}
async function draw(params: Partial<GenerateParams> = {}): Promise<string> {
  const { images } = await pipe!.generate({ ...call, ...params })
  return createHash('sha256').update(images[0]!.data).digest('hex')
}
const weightsOf = (part: string): string =>
  join(folder, part, `${part.startsWith('text') ? 'model' : 'diffusion_pytorch_model'}.safetensors`)
/** The same file with some of its weights doubled, under another name. */
async function writeOther(file: string): Promise<string> {
  const bytes = await readFile(file)
  for (let at = bytes.length - 200; at < bytes.length; at += 2) bytes.writeUInt16LE(bytes.readUInt16LE(at) ^ 0x80, at)
  await writeFile(`${file}.other`, bytes)
  return `${file}.other`
}

it.each(['packed', 'mapped'] as const)(
  'if %s weights are written over or cut off, calls fail with an error that names the file',
  async (weights) => {
    await load({ weights })
    await draw()
    const file = weightsOf('transformer')
    const bytes = await readFile(file)
    await writeFile(file, await readFile(await writeOther(file)))
    await expect(draw()).rejects.toThrow(ModelChangedError)
    await expect(draw()).rejects.toThrow(
      `Expected ${file} to stay as it was when the model was loaded, got a file that has been written to`,
    )
    // Reading what is no longer there would end the process.
    await truncate(file, 1000)
    await expect(draw()).rejects.toThrow(`${file} to stay as it was when the model was loaded, got 1000 bytes instead of ${bytes.length}`)
  },
)

it('if weights are written over during a call, the call gives no picture', async () => {
  await load({ weights: 'packed' })
  const callbackOnStepEnd = () => utimes(weightsOf('vae'), 1, 1).then(() => ({}))
  await expect(draw({ callbackOnStepEnd })).rejects.toThrow(`${weightsOf('vae')} to stay as it was`)
})

it('if weights are replaced or removed, what is open draws as before and what has to be opened again fails', async () => {
  await load({ weights: 'packed' })
  const before = await draw()
  for (const part of ['transformer', 'vae', 'text_encoder']) await rename(await writeOther(weightsOf(part)), weightsOf(part))
  expect(await draw({ prompt: ['a red boat'] })).toBe(before)
  await pipe!.close()

  await load({ weights: 'mapped' })
  await draw()
  await rename(await writeOther(weightsOf('vae')), weightsOf('vae'))
  await expect(draw()).rejects.toThrow(`${weightsOf('vae')} to stay as it was when the model was loaded, got another file in its place`)
  await rm(weightsOf('vae'))
  await expect(draw()).rejects.toThrow(`${weightsOf('vae')} to stay as it was when the model was loaded, got no such file`)
})

it('if weights are replaced before the hash is known, no hash is reported', async () => {
  await load({ weights: 'packed' })
  await rename(await writeOther(weightsOf('vae')), weightsOf('vae'))
  await expect(pipe!.modelHash()).rejects.toThrow('got another file in its place')
})

it('if weights are replaced before the first LoRA, its graph is not opened over the new ones', async () => {
  await rm(folder, { recursive: true })
  await cp(fileURLToPath(new URL('../../../../models/tiny-scenes', import.meta.url)), folder, { recursive: true })
  await load({ weights: 'packed', lorasDir: fileURLToPath(new URL('../../test/loras', import.meta.url)) })
  await rename(await writeOther(weightsOf('transformer')), weightsOf('transformer'))
  await expect(draw({ loras: [{ id: 'tint' }] })).rejects.toThrow('got another file in its place')
})
