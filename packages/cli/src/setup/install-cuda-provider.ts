/**
 * Puts ONNX Runtime's CUDA provider beside the runtime of the npm package, which comes without it. It is taken from the wheel of the same
 * version that PyPI has: built from the same commit, and known to be for CUDA 13.
 *
 * Invariant: nothing is unpacked of a file whose sha256 is not the one written here; a library appears under its name when it is whole.
 * Knows nothing about drivers or CUDA's own libraries. Used by `easel setup cuda` and while the CUDA image is built.
 */
import { createWriteStream } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { openPromise } from 'yauzl'
import { fetchFile, type ModelSource } from '@easel/model-store'

export interface Wheel {
  /** Of ONNX Runtime; the npm package must have the same. */
  version: string
  url: string
  sha256: string
  /** Bytes. */
  size: number
}

export const cudaWheel: Wheel = {
  version: '1.30.0',
  url: 'https://files.pythonhosted.org/packages/31/ae/cfec0c21d039e4125fdc333e2e2032ed0a49eb50f9dd70b7f3819b339018/onnxruntime_gpu-1.30.0-cp313-cp313-manylinux_2_28_x86_64.whl',
  sha256: '9aba23f903f434cc55d851aeb801afee19e287c202f4ab8f59d02f04caa90aed',
  size: 246_688_669,
}

export interface InstallCudaOptions {
  wheel: Wheel
  /** Libraries to take, by file name. */
  files: readonly string[]
  /** Where they go. */
  folder: string
  signal: AbortSignal
  onProgress: (doneBytes: number, totalBytes: number) => void
  onRetry: (reason: string, waitMs: number) => void
}

export async function installCudaProvider({ wheel, files, folder, signal, onProgress, onRetry }: InstallCudaOptions): Promise<void> {
  await mkdir(folder, { recursive: true })
  const work = join(folder, '.cuda-provider')
  const file = { path: basename(new URL(wheel.url).pathname), size: wheel.size, sha256: wheel.sha256 }
  const download = join(work, file.path)
  let doneBytes = 0
  const onBytes = (count: number): void => onProgress((doneBytes += count), wheel.size)
  await fetchFile(toSource(wheel), file, download, { signal, onBytes, onRetry })
  const unpacked = await mkdtemp(join(work, 'unpacked-'))
  await unpack(download, files, unpacked)
  for (const name of files) await rename(join(unpacked, name), join(folder, name))
  await rm(work, { recursive: true, force: true })
}

function toSource(wheel: Wheel): ModelSource {
  const refused = async (): Promise<never> => {
    throw new Error('a wheel is one file')
  }
  return {
    name: `onnxruntime-gpu ${wheel.version}`,
    origin: wheel.url,
    list: refused,
    read: refused,
    findLocalCopy: async () => undefined,
    async open(_, offset, signal) {
      const response = await fetch(wheel.url, { headers: { range: `bytes=${offset}-` }, signal })
      if (!response.ok || response.body === null) throw new Error(`${new URL(wheel.url).host} answers ${response.status}`)
      return { offset: response.status === 206 ? offset : 0, bytes: response.body }
    },
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
