/**
 * Which execution provider runs the model: the one asked for, or the best that works here.
 *
 * Invariant: a provider is chosen only after a real graph has run on it with the right result; one that was asked for and does
 * not work is an error that says what is missing, never a silent fallback to the CPU.
 * Knows nothing about the model. Runs in the engine process, once, at start.
 */
import { existsSync, readdirSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { reportCuda } from './cuda-provider.ts'
import { DEVICES } from './devices.ts'
import type { Device } from './devices.ts'
import { listBuiltProviders } from './onnx-runtime.ts'
import type { ExecutionProvider } from './onnx-runtime.ts'
import { OnnxSession } from './onnx-session.ts'

/** The choice that was made, for logs and capabilities. */
export interface ResolvedDevice {
  /** What was asked for. */
  readonly requested: Device
  /** The provider that runs the model. */
  readonly provider: ExecutionProvider
  /** Why this one was chosen and those before it were not. */
  readonly reason: string
}

/** The provider that was asked for does not work on this machine. */
export class DeviceError extends Error {
  override readonly name = 'DeviceError'
}

/** The order in which 'auto' tries providers. TensorRT is left out because its first run builds engines for minutes. */
const autoOrder = ['cuda', 'coreml', 'dml', 'webgpu'] as const satisfies readonly ExecutionProvider[]

const needs: Record<Exclude<ExecutionProvider, 'cpu'>, string> = {
  cuda: 'an NVIDIA GPU with a driver of branch 580 or newer, the libraries of CUDA 13 and cuDNN 9, and the CUDA provider of ONNX Runtime',
  tensorrt: 'everything cuda needs, TensorRT 10 on LD_LIBRARY_PATH, and the TensorRT provider of ONNX Runtime',
  webgpu: 'a GPU with a Vulkan, Metal or Direct3D 12 driver',
  coreml: 'macOS on Apple silicon',
  dml: 'Windows with a Direct3D 12 GPU',
}

export async function resolveDevice(requested: Device = 'auto', deviceId?: number): Promise<ResolvedDevice> {
  if (!DEVICES.includes(requested)) throw new DeviceError(`Expected device to be one of ${DEVICES.join(', ')}, got "${requested}"`)
  if (requested === 'cpu') return { requested, provider: 'cpu', reason: 'asked for' }
  if (requested !== 'auto') {
    const failure = await probeProvider(requested, deviceId)
    if (failure === undefined) return { requested, provider: requested, reason: 'asked for; the probe graph ran on it' }
    const problems = requested === 'cuda' || requested === 'tensorrt' ? reportCuda().problems : []
    throw new DeviceError([`Expected device ${requested} to work, got: ${failure}. It needs ${needs[requested]}.`, ...problems].join(' '))
  }
  const tried: string[] = []
  for (const provider of autoOrder) {
    const failure = provider === 'webgpu' && !hasGpuNode() ? 'no GPU, only software rendering' : await probeProvider(provider, deviceId)
    if (failure === undefined) return { requested, provider, reason: ['the probe graph ran on it', ...tried].join('; ') }
    tried.push(`${provider}: ${failure}`)
  }
  return { requested, provider: 'cpu', reason: `no GPU works here (${tried.join('; ')})` }
}

/** Runs a small graph on the provider. Returns what went wrong, undefined when nothing did. */
export async function probeProvider(provider: ExecutionProvider, deviceId?: number): Promise<string | undefined> {
  const built = await listBuiltProviders()
  if (!built.includes(provider)) return `onnxruntime-node for ${process.platform}-${process.arch} has only ${built.join(', ')}`
  let session: OnnxSession | undefined
  try {
    session = await OnnxSession.load(fileURLToPath(new URL('probe.onnx', import.meta.url)), { provider, deviceId })
    const { y } = await session.run({ x: { data: new Float32Array([1, 2, -1, 1]), dims: [2, 2] } }, ['y'])
    const got = y === undefined ? '' : y.data.join(', ')
    return got === '7, 6, 2, 6' ? undefined : `the probe graph gave [${got}], not [7, 6, 2, 6]`
  } catch (error) {
    return firstLine(error)
  } finally {
    await session?.release()
  }
}

/** On Linux a software rasteriser also offers WebGPU, far slower than the CPU provider. Real hardware has a device node. */
function hasGpuNode(): boolean {
  if (process.platform !== 'linux') return true
  if (existsSync('/dev/nvidia0') || existsSync('/dev/dxg')) return true
  return existsSync('/dev/dri') && readdirSync('/dev/dri').some((name) => name.startsWith('renderD'))
}

/** The runtime's own message; the layers above it only add the path of the probe graph. */
function firstLine(error: unknown): string {
  const root = error instanceof Error && error.cause instanceof Error ? error.cause : error
  return (root instanceof Error ? root.message : String(root)).split('\n')[0]?.trim() ?? 'an error without a message'
}
