/** The names of this machine's GPUs, which distinguish its measurements from another machine's. Knows nothing about what runs on them. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import type { ExecutionProvider } from './onnx-runtime.ts'

const timeoutMs = 5000

/** All GPUs that NVIDIA's driver sees, in its order; empty for another provider, and where the driver gives no answer. */
export async function readGpuNames(provider: ExecutionProvider): Promise<string[]> {
  if (provider !== 'cuda' && provider !== 'tensorrt') return []
  try {
    const { stdout } = await promisify(execFile)('nvidia-smi', ['--query-gpu=name', '--format=csv,noheader'], { timeout: timeoutMs })
    return stdout.trim().split('\n')
  } catch {
    return []
  }
}
