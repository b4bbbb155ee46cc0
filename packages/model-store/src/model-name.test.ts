import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { parseModelName } from './model-name.ts'

test.each([
  ['stabilityai/stable-diffusion-3.5-medium', 'stabilityai/stable-diffusion-3.5-medium', 'main', 'stable-diffusion-3.5-medium'],
  ['stabilityai/stable-diffusion-3-medium', 'stabilityai/stable-diffusion-3-medium-diffusers', 'main', 'stable-diffusion-3-medium'],
  ['owner/name', 'owner/name', 'main', 'owner/name'],
  ['owner/name@v2', 'owner/name', 'v2', 'owner/name@v2'],
])('%s is a repository with a folder of its own', (text, repository, revision, folder) => {
  expect(parseModelName(text, '/nowhere')).toEqual({ type: 'repository', repository, revision, folder })
})

test('a name is a path when it looks like one or exists', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'easel-name-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'sd3.safetensors'), '')
  expect(parseModelName('sd3.safetensors', folder)).toEqual({
    type: 'local',
    path: join(folder, 'sd3.safetensors'),
    folder: 'sd3.safetensors',
  })
  expect(parseModelName(folder, '/')).toMatchObject({ type: 'local', path: folder })
  expect(() => parseModelName('./nothing', folder)).toThrow(/Expected a folder or a \.safetensors file at .*nothing, got nothing there/)
  expect(() => parseModelName('nothing', folder)).toThrow(/Expected a model: a preset .*, a repository of the hub .*, got "nothing"/)
})
