/**
 * Memory of an NVIDIA GPU as `nvidia-smi` tells it: what is in use on the device, whoever uses it, and with it what the driver keeps for
 * itself. Undefined where there is no such program or no answer. Runs in the worker's main process.
 */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { WorkerHeartbeat } from '@easel/contract'

const timeoutMs = 3000
const mebibytesPerGigabyte = 1024

export type GpuMemory = NonNullable<WorkerHeartbeat['gpu']>

/** `gpu`: index or UUID. Default: the first one there is. */
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

/** Lines `used, reserved` in MiB, one a GPU; old drivers do not tell what they reserve. */
export function parseGpuMemory(text: string): GpuMemory | undefined {
  const [used = Number.NaN, reserved = Number.NaN] = (text.split('\n')[0] ?? '').split(',').map((part) => Number.parseFloat(part))
  if (!Number.isFinite(used)) return undefined
  const total = used + (Number.isFinite(reserved) ? reserved : 0)
  return { memory_allocated_gb: used / mebibytesPerGigabyte, memory_reserved_gb: total / mebibytesPerGigabyte }
}
