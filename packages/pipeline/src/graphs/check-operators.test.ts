import { existsSync } from 'node:fs'
import { afterEach, expect, it, vi } from 'vitest'
import { probeProvider } from '../models/device.ts'
import { operatorChoices, plainOperators } from './operator-choices.ts'
import { checkOperators } from './check-operators.ts'

const icd = '/usr/lib/chromium/vk_swiftshader_icd.json'
const warnings = vi.spyOn(process, 'emitWarning').mockImplementation(() => undefined)
afterEach(() => void warnings.mockClear())

it.each(['float32', 'float16'] as const)('on the CPU every operator of the table is right in %s, and there is no warning', async (type) => {
  expect(await checkOperators(operatorChoices.cpu, type, {})).toEqual(operatorChoices.cpu)
  expect(warnings).not.toHaveBeenCalled()
})

it('plain operators are not run', async () => {
  expect(await checkOperators(plainOperators, 'float32', { provider: 'dml' })).toEqual(plainOperators)
})

it('an operator that the provider cannot run is replaced by plain ones, and a warning says why', async () => {
  const choices = { ...operatorChoices.cpu, gelu: 'NoSuchGelu' as 'FastGelu' }
  expect(await checkOperators(choices, 'float32', {})).toEqual({ ...operatorChoices.cpu, gelu: 'plain' })
  expect(warnings.mock.calls).toEqual([[expect.stringMatching(/^NoSuchGelu on cpu fails: .*; plain operators are used in its place$/)]])
})

it.runIf(existsSync(icd))(
  'on WebGPU in software the fused attention, which is wrong with many tokens, is found out, and the table of WebGPU is right',
  async ({ skip }) => {
    vi.stubEnv('VK_DRIVER_FILES', icd)
    vi.stubEnv('XDG_RUNTIME_DIR', '/tmp')
    const failure = await probeProvider('webgpu')
    if (failure !== undefined) skip(`WebGPU does not work here: ${failure}`)
    expect(await checkOperators(operatorChoices.webgpu, 'float32', { provider: 'webgpu' })).toEqual(operatorChoices.webgpu)
    expect(warnings).not.toHaveBeenCalled()
    const fused = { ...operatorChoices.webgpu, attention: operatorChoices.cpu.attention }
    expect(await checkOperators(fused, 'float32', { provider: 'webgpu' })).toEqual(operatorChoices.webgpu)
    expect(warnings.mock.calls).toEqual([[expect.stringMatching(/^MultiHeadAttention on webgpu is \S+ off at \d+ tokens; plain/)]])
  },
)
