import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { beforeEach, expect, onTestFinished, test } from 'vitest'
import { ZipFile } from 'yazl'
import { cudaProviderFiles, runtimeVersion } from '@easel/pipeline'
import { cudaWheel, installCudaProvider, type Wheel } from './install-cuda-provider.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'easel-cuda-'))
  onTestFinished(() => rm(folder, { recursive: true, force: true }))
})

/** A wheel with these libraries, behind a server that breaks off in the middle of its first answer. */
async function serveWheel(names: readonly string[]): Promise<Wheel> {
  const zip = new ZipFile()
  for (const name of names) zip.addBuffer(Buffer.from(`library ${name}`), `onnxruntime/capi/${name}`)
  zip.addBuffer(Buffer.alloc(200_000, 'x'), 'onnxruntime/capi/other.so', { compress: false })
  zip.end()
  const content = await buffer(zip.outputStream)
  let answers = 0
  const server = createServer((request, response) => {
    const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0)
    response.writeHead(206, { 'content-length': content.length - start })
    if (answers++ === 0) response.write(content.subarray(start, start + 100_000), () => response.destroy())
    else response.end(content.subarray(start))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/some.whl`
  return { version: '1', url, size: content.length, sha256: createHash('sha256').update(content).digest('hex') }
}

function install(wheel: Wheel) {
  const { signal } = new AbortController()
  return installCudaProvider({ wheel, files: cudaProviderFiles, folder, signal, onProgress: () => {}, onRetry: () => {} })
}

test('the libraries are taken out of the wheel, also after a connection that broke off, and nothing else is left', async () => {
  await install(await serveWheel(cudaProviderFiles))
  expect((await readdir(folder)).sort()).toEqual([...cudaProviderFiles].sort())
  expect(await readFile(join(folder, cudaProviderFiles[0]), 'utf8')).toBe(`library ${cudaProviderFiles[0]}`)
})

test('a wheel with another hash is not unpacked', async () => {
  const wheel = await serveWheel(cudaProviderFiles)
  await expect(install({ ...wheel, sha256: '0'.repeat(64) })).rejects.toThrow(/came twice with the sha256/)
  expect(await readdir(folder)).toEqual(['.cuda-provider'])
})

test('a wheel without the libraries is an error that names them', async () => {
  await expect(install(await serveWheel([]))).rejects.toThrow(`Expected ${cudaProviderFiles.join(', ')} in some.whl, got none`)
})

test('the wheel written down here is of the version that the npm package has', async () => {
  expect(cudaWheel.version).toBe(await runtimeVersion())
})
