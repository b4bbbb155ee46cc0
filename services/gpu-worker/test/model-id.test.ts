/** The api and the worker each read MODEL, and must take it for the same model. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, test } from 'vitest'
import { modelPresetNames, toModelId } from '@easel/contract'
import { presets, resolveModel } from '@easel/pipeline'

const modelsDir = mkdtempSync(join(tmpdir(), 'easel-model-id-'))
afterAll(() => rmSync(modelsDir, { recursive: true }))

function writeModel(folder: string): void {
  mkdirSync(join(modelsDir, folder), { recursive: true })
  writeFileSync(join(modelsDir, folder, 'model_index.json'), '{}')
}

function writeCached(repository: string): void {
  const folder = `models--${repository.replace('/', '--')}`
  writeModel(`${folder}/snapshots/abc`)
  mkdirSync(join(modelsDir, folder, 'refs'))
  writeFileSync(join(modelsDir, folder, 'refs/main'), 'abc')
}

test('the api knows the presets of the library', () => {
  expect([...modelPresetNames].sort()).toEqual(Object.keys(presets).sort())
})

test('the api and the worker give a model the same id, however MODEL names it', () => {
  for (const { folder } of Object.values(presets)) writeModel(folder)
  writeModel('mine')
  writeModel('me/mine-too')
  writeFileSync(join(modelsDir, 'one-file.safetensors'), '')
  writeCached('me/mine--v2')
  writeCached('stabilityai/stable-diffusion-3.5-medium')
  const names = [
    ...Object.keys(presets),
    ...Object.values(presets).map(({ folder }) => folder),
    'mine',
    'mine/',
    './mine/.',
    'me/mine-too',
    'one-file',
    'one-file.safetensors',
    'models--me--mine--v2',
    'models--me--mine--v2/snapshots/abc/',
    'models--stabilityai--stable-diffusion-3.5-medium',
  ]
  const paths = names.filter((name) => !Object.hasOwn(presets, name) && name !== 'one-file').map((name) => join(modelsDir, name))
  for (const model of [...names, ...paths]) expect([model, toModelId(model)]).toEqual([model, resolveModel(model, { modelsDir }).id])
})
