import { describe, expect, it } from 'vitest'
import { reportCuda } from './cuda-provider.ts'
import { DeviceError, probeProvider, resolveDevice } from './device.ts'
import type { Device } from './devices.ts'
import { listBuiltProviders } from './onnx-runtime.ts'

describe('the device', () => {
  it('cpu runs the probe graph', async () => {
    expect(await probeProvider('cpu')).toBeUndefined()
    expect(await resolveDevice('cpu')).toEqual({ requested: 'cpu', provider: 'cpu', reason: 'asked for' })
  })

  it('that was requested and cannot start is an error that says what is missing', async () => {
    const built = await listBuiltProviders()
    for (const device of ['coreml', 'dml', 'cuda', 'tensorrt'] as const) {
      const failure = await probeProvider(device)
      if (failure === undefined) continue
      const error = await resolveDevice(device).then(
        () => undefined,
        (reason: unknown) => reason,
      )
      expect(error).toBeInstanceOf(DeviceError)
      const cause = built.includes(device) ? '.+' : `onnxruntime-node for .+ has only ${built.join(', ')}`
      expect(String(error)).toMatch(new RegExp(`Expected device ${device} to work, got: ${cause}\\. It needs .+`))
    }
    expect(built).toContain('cpu')
  })

  it.skipIf(process.platform !== 'linux' || process.arch !== 'x64')(
    'cuda says which of its parts are missing, and which command installs them',
    async () => {
      const { problems } = reportCuda()
      const failure = await resolveDevice('cuda').then(
        () => '',
        (reason: unknown) => String(reason),
      )
      // The error names everything that this machine lacks. On a machine that lacks nothing there is no error.
      expect(problems.filter((problem) => !failure.includes(problem))).toEqual([])
      expect(problems.every((problem) => /580|npx easel setup cuda|cuda-libraries-13-0/.test(problem))).toBe(true)
      expect(failure === '').toBe(problems.length === 0)
    },
  )

  it('auto chooses one that works and says why', async () => {
    const chosen = await resolveDevice('auto')
    expect(await probeProvider(chosen.provider)).toBeUndefined()
    expect(chosen.reason).toMatch(chosen.provider === 'cpu' ? /no GPU works here \(cuda: .+webgpu: / : /the probe graph ran on it/)
  })

  it('that does not exist is refused with the names of those that do', async () => {
    await expect(resolveDevice('gpu' as Device)).rejects.toThrow(
      'Expected device to be one of auto, cpu, cuda, tensorrt, webgpu, coreml, dml, got "gpu"',
    )
  })
})
