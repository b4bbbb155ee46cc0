import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { parseFlowMatchConfig, parseFlowMatchConfigJson } from './flow-match-config.ts'

test('an empty configuration is complete with the defaults of diffusers', () => {
  expect(parseFlowMatchConfig({})).toEqual({
    numTrainTimesteps: 1000,
    shift: 1,
    useDynamicShifting: false,
    baseShift: 0.5,
    maxShift: 1.15,
    baseImageSeqLen: 256,
    maxImageSeqLen: 4096,
    invertSigmas: false,
    shiftTerminal: null,
    useKarrasSigmas: false,
    useExponentialSigmas: false,
    useBetaSigmas: false,
    timeShiftType: 'exponential',
    stochasticSampling: false,
  })
})

test("the demo model's scheduler_config.json is read", () => {
  const path = new URL('../../../../models/tiny-scenes/scheduler/scheduler_config.json', import.meta.url)
  const json = JSON.parse(readFileSync(path, 'utf8'))
  expect(parseFlowMatchConfigJson(json)).toEqual(parseFlowMatchConfig({ shift: json.shift }))
})

test('null stands for a flag that was never set', () => {
  expect(parseFlowMatchConfigJson({ use_karras_sigmas: null }).useKarrasSigmas).toBe(false)
})

test('null stands for the default of a bound of mu, as in the configuration of a fixed schedule', () => {
  expect(parseFlowMatchConfigJson({ base_shift: null, max_shift: null })).toMatchObject({ baseShift: 0.5, maxShift: 1.15 })
})

test.for([
  [{ shift: '3' }, 'Expected shift to be a number above 0, got "3"'],
  [{ shift: 0 }, 'Expected shift to be a number above 0, got 0'],
  [{ shift: Number.NaN }, 'Expected shift to be a number above 0, got NaN'],
  [{ num_train_timesteps: 10.5 }, 'Expected num_train_timesteps to be an integer from 1 to 100000, got 10.5'],
  [{ num_train_timesteps: 0 }, 'Expected num_train_timesteps to be an integer from 1 to 100000, got 0'],
  [{ num_train_timesteps: 1e9 }, 'Expected num_train_timesteps to be an integer from 1 to 100000, got 1000000000'],
  [{ max_image_seq_len: 0 }, 'Expected max_image_seq_len to be an integer from 1 up, got 0'],
  [{ base_shift: '0.5' }, 'Expected base_shift to be a number, got "0.5"'],
  [{ use_dynamic_shifting: 'yes' }, 'Expected use_dynamic_shifting to be true or false, got "yes"'],
  [{ shift_terminal: 1 }, 'Expected shift_terminal to be null or a number from 0 to below 1, got 1'],
  [{ time_shift_type: 'cubic' }, `Expected time_shift_type to be 'exponential' or 'linear', got "cubic"`],
  [{ _class_name: 'DDIMScheduler' }, 'Expected _class_name to be "FlowMatchEulerDiscreteScheduler", got "DDIMScheduler"'],
  [
    { use_karras_sigmas: true, use_beta_sigmas: true },
    'Expected at most one spacing of sigmas, got use_karras_sigmas true and use_beta_sigmas true',
  ],
  [[], 'Expected scheduler config to be an object, got []'],
  [null, 'Expected scheduler config to be an object, got null'],
] as const)('%j is refused by name', ([json, message]) => {
  expect(() => parseFlowMatchConfigJson(json)).toThrow(message)
})

test.for([{ prediction_type: 'epsilon' }, { sigma_min: 0.1 }, { useKarrasSigmas: true }, JSON.parse('{"constructor":1}')])(
  'a field the scheduler does not know is refused: %j',
  (json) => {
    const [name] = Object.keys(json)
    expect(() => parseFlowMatchConfigJson(json)).toThrow(`got ${name}: ${JSON.stringify(json[name!])}`)
  },
)

test('an unknown or wrong camelCase field is refused by that name', () => {
  expect(() => parseFlowMatchConfig({ sigmaMin: 0.1 })).toThrow('got sigmaMin: 0.1')
  expect(() => parseFlowMatchConfig({ baseImageSeqLen: -1 })).toThrow('Expected baseImageSeqLen to be an integer from 1 up, got -1')
})
