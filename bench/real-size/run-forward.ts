/** Runs one transformer in a process of its own: ours, or torch's with the same weights. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { ForwardReport, ForwardRequest } from './forward.ts'

const run = promisify(execFile)
const pathOf = (name: string): string => fileURLToPath(new URL(name, import.meta.url))

export async function runForward(request: ForwardRequest): Promise<ForwardReport> {
  const { stdout } = await run(process.execPath, [pathOf('forward.ts'), JSON.stringify(request)])
  return JSON.parse(stdout) as ForwardReport
}

export interface TorchReport {
  readonly loadMs: number
  readonly runMs: readonly number[]
  readonly cpuMs: readonly number[]
  /** The maximum in MiB. */
  readonly residentMib: number
}

export interface TorchRequest extends Pick<ForwardRequest, 'folder' | 'side' | 'rows' | 'tokens' | 'runs'> {
  /** Default 'cpu'. */
  readonly device?: 'cpu' | 'cuda'
  /** Default 'float32'. */
  readonly dtype?: 'float32' | 'bfloat16'
  /** Whether it is compiled first. Default false. */
  readonly compile?: boolean
}

/** Undefined where the Python that `PYTHON` names (default python3) has no torch. */
export async function runTorch(request: TorchRequest): Promise<TorchReport | undefined> {
  const python = process.env['PYTHON'] ?? 'python3'
  try {
    await run(python, ['-c', 'import torch, diffusers, safetensors'])
  } catch {
    return undefined
  }
  const { stdout } = await run(python, [pathOf('torch-peer.py'), JSON.stringify(request)])
  return JSON.parse(stdout) as TorchReport
}
