/**
 * What CUDA lacks on this machine: ONNX Runtime's provider library, the driver, and the libraries of CUDA 13 and cuDNN 9.
 *
 * Invariant: changes nothing; every problem is a sentence that says how to solve it. The runtime itself only says that a library could not
 * be loaded. Knows nothing about models. Runs where a device is chosen, and in `easel doctor`.
 */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

export interface CudaReport {
  /** The folder in which ONNX Runtime looks for its provider libraries; undefined where it has none for CUDA. */
  readonly providerFolder: string | undefined
  /** The version that nvidia-smi reports; undefined where there is no driver. */
  readonly driverVersion: string | undefined
  /** One sentence for each problem; empty where nothing is missing. */
  readonly problems: readonly string[]
}

export const cudaProviderFiles = ['libonnxruntime_providers_cuda.so', 'libonnxruntime_providers_shared.so'] as const
/** Major version of the oldest driver that runs CUDA 13. */
const minDriverMajor = 580
/** Loaded by name when the first convolution runs, so the provider library does not list it. */
const cudnn = 'libcudnn.so.9'

export function reportCuda(): CudaReport {
  const providerFolder = findProviderFolder()
  if (providerFolder === undefined)
    return { providerFolder, driverVersion: undefined, problems: [`It needs Linux on x64, got ${process.platform} on ${process.arch}.`] }
  const driverVersion = readDriverVersion()
  const provider = join(providerFolder, cudaProviderFiles[0])
  const problems: string[] = []
  if (driverVersion === undefined)
    problems.push(`There is no NVIDIA driver (nvidia-smi does not answer): install branch ${minDriverMajor} or newer.`)
  else if (Number.parseInt(driverVersion, 10) < minDriverMajor)
    problems.push(`The NVIDIA driver is ${driverVersion}, and CUDA 13 needs branch ${minDriverMajor} or newer.`)
  if (!existsSync(provider)) problems.push(`ONNX Runtime's CUDA provider is not there: "npx easel setup cuda" fetches it.`)
  const missing = [...(existsSync(provider) ? findMissing(provider) : []), ...(isOnPath(cudnn) ? [] : [cudnn])]
  if (missing.length > 0)
    problems.push(
      `Libraries of CUDA 13 and cuDNN 9 are missing (${missing.join(', ')}): install NVIDIA's packages cuda-libraries-13-0 and ` +
        'libcudnn9-cuda-13, or add the folder they are in to LD_LIBRARY_PATH.',
    )
  return { providerFolder, driverVersion, problems }
}

/** The folder of the runtime's own binary. */
function findProviderFolder(): string | undefined {
  if (process.platform !== 'linux' || process.arch !== 'x64') return undefined
  const entry = createRequire(import.meta.url).resolve('onnxruntime-node/package.json')
  const bin = join(dirname(entry), 'bin')
  const napi = existsSync(bin) ? readdirSync(bin).find((name) => name.startsWith('napi-v')) : undefined
  const folder = join(bin, napi ?? '', 'linux', 'x64')
  return existsSync(folder) ? folder : undefined
}

function readDriverVersion(): string | undefined {
  const { status, stdout } = spawnSync('nvidia-smi', ['--query-gpu=driver_version', '--format=csv,noheader'], {
    encoding: 'utf8',
    timeout: 10_000,
  })
  return status === 0 ? stdout.trim().split('\n')[0]?.trim() || undefined : undefined
}

/** The libraries that the provider was linked against and the dynamic linker cannot find. The driver's own libraries are judged by its version. */
function findMissing(library: string): string[] {
  const { stdout } = spawnSync('ldd', [library], { encoding: 'utf8', timeout: 10_000 })
  const names = [...(stdout ?? '').matchAll(/^\s*(\S+) => not found$/gm)].map(([, name]) => name ?? '')
  return names.filter((name) => !name.startsWith('libcuda.so'))
}

function isOnPath(name: string): boolean {
  // oxlint-disable-next-line node/no-process-env -- The dynamic linker reads it too.
  const folders = (process.env['LD_LIBRARY_PATH'] ?? '').split(':').filter((folder) => folder !== '')
  if (folders.some((folder) => existsSync(join(folder, name)))) return true
  const { stdout } = spawnSync('/sbin/ldconfig', ['-p'], { encoding: 'utf8', timeout: 10_000 })
  return (stdout ?? '').includes(name)
}
