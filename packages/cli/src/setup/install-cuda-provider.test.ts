import { createHash } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
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

/** A wheel with these libraries, in a folder other than the one they are meant for. */
async function writeWheel(names: readonly string[]): Promise<{ archive: string; wheel: Wheel }> {
  const zip = new ZipFile()
  for (const name of names) zip.addBuffer(Buffer.from(`library ${name}`), `onnxruntime/capi/${name}`)
  zip.addBuffer(Buffer.alloc(200_000, 'x'), 'onnxruntime/capi/other.so', { compress: false })
  zip.end()
  const content = await buffer(zip.outputStream)
  const beside = await mkdtemp(join(tmpdir(), 'easel-wheel-'))
  onTestFinished(() => rm(beside, { recursive: true, force: true }))
  const archive = join(beside, 'some.whl')
  await writeFile(archive, content)
  return { archive, wheel: { version: '1', name: 'some.whl', sha256: createHash('sha256').update(content).digest('hex') } }
}

test('the libraries are taken out of the wheel, and nothing else', async () => {
  const { archive, wheel } = await writeWheel(cudaProviderFiles)
  await installCudaProvider(archive, wheel, cudaProviderFiles, folder)
  expect((await readdir(folder)).toSorted()).toEqual([...cudaProviderFiles].toSorted())
  expect(await readFile(join(folder, cudaProviderFiles[0]), 'utf8')).toBe(`library ${cudaProviderFiles[0]}`)
})

test('a wheel with another hash is not unpacked', async () => {
  const { archive, wheel } = await writeWheel(cudaProviderFiles)
  const other = { ...wheel, sha256: '0'.repeat(64) }
  await expect(installCudaProvider(archive, other, cudaProviderFiles, folder)).rejects.toThrow(/some\.whl to have the sha256 000/)
  expect(await readdir(folder)).toEqual([])
})

test('a wheel without the libraries is an error that names them', async () => {
  const { archive, wheel } = await writeWheel([])
  const sentence = `Expected ${cudaProviderFiles.join(', ')} in some.whl, got none`
  await expect(installCudaProvider(archive, wheel, cudaProviderFiles, folder)).rejects.toThrow(sentence)
  expect(await readdir(folder)).toEqual([])
})

test('the wheel that is fetched has the version of the npm package', async () => {
  expect(cudaWheel.version).toBe(await runtimeVersion())
})
