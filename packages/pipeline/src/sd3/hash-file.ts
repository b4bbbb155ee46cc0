/** The sha256 of a file, read in the calling thread. As the entry point of a worker thread it answers each path with the file's hash. */
import { createHash } from 'node:crypto'
import { closeSync, openSync, readSync } from 'node:fs'
import { parentPort, Worker, workerData } from 'node:worker_threads'

/** Large enough to need far fewer reads than a stream, and half the processor time. */
const chunkBytes = 2 ** 20
/** The workerData by which this module knows that it is the entry point of such a thread. */
const hashFiles = 'hash files'

/** The hash in hex. */
export function hashFile(path: string): string {
  const file = openSync(path, 'r')
  try {
    const hash = createHash('sha256')
    const chunk = Buffer.allocUnsafe(chunkBytes)
    for (let read = chunkBytes; read > 0;) {
      read = readSync(file, chunk, 0, chunkBytes, null)
      hash.update(chunk.subarray(0, read))
    }
    return hash.digest('hex')
  } finally {
    closeSync(file)
  }
}

/** A thread that answers each path it is sent with the file's hash. This module is its entry point, whatever the file is called when built. */
export function startHashThread(): Worker {
  return new Worker(new URL(import.meta.url), { workerData: hashFiles })
}

if (workerData === hashFiles) parentPort?.on('message', (path: string) => parentPort?.postMessage(hashFile(path)))
