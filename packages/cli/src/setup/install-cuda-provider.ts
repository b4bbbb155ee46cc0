/**
 * Puts ONNX Runtime's CUDA provider beside the runtime of the npm package, which comes without it. It is taken from PyPI's wheel of the same
 * version, which was built from the same commit and is known to be for CUDA 13.
 *
 * Invariant: nothing is unpacked from a file whose sha256 differs from the one given here; a library gets its name when it is complete.
 * Knows nothing about drivers or CUDA's own libraries. Used by `easel setup cuda` and while the CUDA image is built.
 */
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { openPromise } from 'yauzl'

export interface Wheel {
  /** The version of ONNX Runtime; the npm package must have the same. */
  version: string
  /** File name. */
  name: string
  sha256: string
}

export const cudaWheel: Wheel = {
  version: '1.30.0',
  name: 'onnxruntime_gpu-1.30.0-cp313-cp313-manylinux_2_28_x86_64.whl',
  sha256: '9aba23f903f434cc55d851aeb801afee19e287c202f4ab8f59d02f04caa90aed',
}

/** Lets pip fetch the wheel into a folder, from the index configured for pip, and returns its path. pip shows its progress itself. */
export function downloadWheel(wheel: Wheel, folder: string): string {
  // The wheel's Python version need not be this machine's, because only the libraries in it are used.
  const target = ['--platform', 'manylinux_2_28_x86_64', '--implementation', 'cp', '--python-version', '313', '--abi', 'cp313']
  const what = ['--no-deps', '--only-binary=:all:', `onnxruntime-gpu==${wheel.version}`, '--dest', folder]
  const { status, error } = spawnSync('python3', ['-m', 'pip', 'download', ...target, ...what], { stdio: ['ignore', 2, 'inherit'] })
  if (status === 0) return join(folder, wheel.name)
  const reason = error === undefined ? 'see the lines above' : error.message
  throw new Error(`Expected pip to fetch ${wheel.name} (${reason}). Fetch it elsewhere and name it: npx easel setup cuda --wheel FILE`)
}

/** `archive`: the wheel. `files`: the file names of the libraries to take. `folder`: where they go; it must exist. */
export async function installCudaProvider(archive: string, wheel: Wheel, files: readonly string[], folder: string): Promise<void> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(archive), hash)
  const found = hash.digest('hex')
  if (found !== wheel.sha256) throw new Error(`Expected ${basename(archive)} to have the sha256 ${wheel.sha256}, got ${found}`)
  const unpacked = await mkdtemp(join(folder, '.cuda-provider-'))
  try {
    await unpack(archive, files, unpacked)
    for (const name of files) await rename(join(unpacked, name), join(folder, name))
  } finally {
    await rm(unpacked, { recursive: true, force: true })
  }
}

/** A wheel is a zip file. */
async function unpack(archive: string, files: readonly string[], folder: string): Promise<void> {
  const left = new Set(files)
  const zip = await openPromise(archive)
  try {
    for await (const entry of zip.eachEntry()) {
      const name = basename(entry.fileName)
      if (!left.delete(name)) continue
      await pipeline(await zip.openReadStreamPromise(entry), createWriteStream(join(folder, name), { mode: 0o755 }))
    }
  } finally {
    zip.close()
  }
  if (left.size > 0) throw new Error(`Expected ${[...left].join(', ')} in ${basename(archive)}, got none`)
}
