import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readDefaults } from './generation-defaults.ts'
import { ModelSource } from './model-source.ts'
import { presets, resolveModel } from './presets.ts'

let modelsDir: string
beforeAll(async () => {
  modelsDir = await mkdtemp(join(tmpdir(), 'easel-models-'))
  for (const name of ['stable-diffusion-3.5-medium', 'mine']) {
    await mkdir(join(modelsDir, name))
    await writeFile(join(modelsDir, name, 'model_index.json'), '{}')
  }
})
afterAll(() => rm(modelsDir, { recursive: true }))

describe('a model name', () => {
  it('of a preset resolves to its folder, with its recommended settings', async () => {
    const model = resolveModel('stabilityai/stable-diffusion-3.5-medium', { modelsDir })
    expect(model).toMatchObject({ id: 'stabilityai/stable-diffusion-3.5-medium', folder: join(modelsDir, 'stable-diffusion-3.5-medium') })
    expect(await readDefaults(await ModelSource.open(model), model.preset)).toEqual({
      numInferenceSteps: 40,
      guidanceScale: 4.5,
      maxSequenceLength: 256,
    })
  })

  it("that is a preset's folder is that preset", () => {
    expect(resolveModel('stable-diffusion-3.5-medium', { modelsDir }).id).toBe('stabilityai/stable-diffusion-3.5-medium')
    expect(resolveModel(join(modelsDir, 'stable-diffusion-3.5-medium'), { modelsDir: '/nowhere' }).preset?.guidanceScale).toBe(4.5)
  })

  it('may be a path or a name in the models directory', () => {
    const expected = { id: 'mine', folder: join(modelsDir, 'mine'), preset: undefined }
    expect(resolveModel('mine', { modelsDir })).toEqual(expected)
    expect(resolveModel(join(modelsDir, 'mine'))).toEqual(expected)
  })

  it('that is a folder in the cache of Hugging Face becomes its repository, whether the snapshot or the whole is named', async () => {
    const cached = join(modelsDir, 'models--some-one--their-model')
    const snapshot = join(cached, 'snapshots', '0123abc')
    await mkdir(snapshot, { recursive: true })
    await writeFile(join(snapshot, 'model_index.json'), '{}')
    await mkdir(join(cached, 'refs'))
    await writeFile(join(cached, 'refs', 'main'), '0123abc\n')
    const expected = { id: 'some-one/their-model', folder: snapshot }
    expect(resolveModel(snapshot)).toMatchObject(expected)
    expect(resolveModel(cached)).toMatchObject(expected)
    await rm(cached, { recursive: true })
  })

  it('that is a single file becomes its name without the ending, and a second folder may have the parts that it lacks', async () => {
    const file = join(modelsDir, 'my.merge-v2.safetensors')
    await writeFile(file, '')
    const expected = { id: 'my.merge-v2', folder: modelsDir, file, preset: undefined }
    expect(resolveModel(file)).toMatchObject(expected)
    expect(resolveModel('my.merge-v2', { modelsDir })).toMatchObject(expected)
    const modelParts = 'stabilityai/stable-diffusion-3.5-medium'
    const parts = join(modelsDir, 'stable-diffusion-3.5-medium')
    expect(resolveModel(file, { modelsDir, modelParts })).toMatchObject({ ...expected, parts, preset: presets[modelParts] })
    expect(() => resolveModel(file, { modelsDir, modelParts: 'absent' })).toThrow('Expected model "absent"')
    await rm(file)
  })

  it.each([
    ['stabilityai/stable-diffusion-3-medium', 'stabilityai/stable-diffusion-3-medium-diffusers', 'stable-diffusion-3-medium'],
    ['stabilityai/stable-diffusion-3.5-large', 'stabilityai/stable-diffusion-3.5-large', 'stable-diffusion-3.5-large'],
    ['stabilityai/stable-diffusion-3.5-large-turbo', 'stabilityai/stable-diffusion-3.5-large-turbo', 'stable-diffusion-3.5-large-turbo'],
  ])('of a preset that is not on disk (%s) is refused with how to get it', (name, repository, folder) => {
    const attempt = () => resolveModel(name, { modelsDir })
    expect(attempt).toThrow(`in ${join(modelsDir, folder)}, got no model_index.json there`)
    expect(attempt).toThrow(`"npx easel pull ${name}"`)
    expect(attempt).toThrow(`accept the licence at https://huggingface.co/${repository}`)
    expect(attempt).toThrow(/about \d+ GB/)
  })

  it('that could be a repository of the hub is refused with the command that fetches it', () => {
    expect(() => resolveModel('owner/name', { modelsDir })).toThrow('"npx easel pull owner/name" fetches it')
    expect(() => resolveModel('nothing', { modelsDir })).not.toThrow('easel pull')
  })

  it('that is unknown or empty is refused with the names that exist', () => {
    expect(() => resolveModel('nothing-like-it', { modelsDir })).toThrow(
      /"nothing-like-it" to be a preset \(.*\), .*\(mine, stable-diffusion-3\.5-medium\)/,
    )
    expect(() => resolveModel('', { modelsDir })).toThrow(
      'Expected a model: a preset name, a folder, or a name in the models directory, got nothing',
    )
    expect(() => resolveModel('  ', { modelsDir })).toThrow('got nothing')
    expect(() => resolveModel('constructor', { modelsDir })).toThrow('"constructor"')
  })
})

it('the four presets carry the steps and guidance of their model cards', () => {
  expect(Object.values(presets).map((preset) => [preset.numInferenceSteps, preset.guidanceScale])).toEqual([
    [28, 7],
    [28, 3.5],
    [4, 0],
    [40, 4.5],
  ])
})
