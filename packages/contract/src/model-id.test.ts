import { expect, test } from 'vitest'
import { modelPresetNames, toModelId } from './model-id.ts'

test('a preset is its own id, by name and by folder; any other folder goes by its base name', () => {
  for (const name of modelPresetNames) {
    expect(toModelId(name)).toBe(name)
    expect(toModelId(`/srv/models/${name.split('/')[1]}`)).toBe(name)
  }
  for (const path of ['tiny-scenes', 'models/tiny-scenes', '/srv/models/tiny-scenes/', String.raw`C:\models\tiny-scenes`])
    expect(toModelId(path)).toBe('tiny-scenes')
})
