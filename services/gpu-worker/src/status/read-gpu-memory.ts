/**
 * The memory of an NVIDIA GPU as reported by `nvidia-smi`: what all processes use on the device, plus what the driver keeps for itself.
 * Undefined where the program does not exist or does not answer. Runs in the worker's main process.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { WorkerHeartbeat } from '@easel/contract'

const timeoutMs = 3000
const mebibytesPerGigabyte = 1024

export type GpuMemory = NonNullable<WorkerHeartbeat['gpu']>

/** `gpu`: index or UUID. Default: the first GPU. */
export async function readGpuMemory(gpu?: string): Promise<GpuMemory | undefined> {
  const query = ['--query-gpu=memory.used,memory.reserved', '--format=csv,noheader,nounits']
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', gpu === undefined ? query : [...query, `--id=${gpu}`], {
      timeout: timeoutMs,
    })
    return parseGpuMemory(stdout)
  } catch {
    return undefined
  }
}

/** Lines `used, reserved` in MiB, one per GPU; old drivers do not report what they reserve. */
export function parseGpuMemory(text: string): GpuMemory | undefined {
  const [used = Number.NaN, reserved = Number.NaN] = (text.split('\n')[0] ?? '').split(',').map((part) => Number.parseFloat(part))
  if (!Number.isFinite(used)) return undefined
  const total = used + (Number.isFinite(reserved) ? reserved : 0)
  return { memory_allocated_gb: used / mebibytesPerGigabyte, memory_reserved_gb: total / mebibytesPerGigabyte }
}
