import { expect, test } from 'vitest'
import { modelPresetNames, toModelId } from './model-id.ts'

test('the id of a preset is its name, even when a folder is given, and that of any other folder is its base name', () => {
  for (const name of modelPresetNames) {
    expect(toModelId(name)).toBe(name)
    expect(toModelId(`/srv/models/${name.split('/')[1]}`)).toBe(name)
  }
  for (const path of ['tiny-scenes', 'models/tiny-scenes', '/srv/models/tiny-scenes/', String.raw`C:\models\tiny-scenes`])
    expect(toModelId(path)).toBe('tiny-scenes')
})
