/** `easel setup cuda`: ONNX Runtime's CUDA provider where the runtime looks for it, and what else CUDA lacks here. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { useProxy } from '@easel/model-store'
import { cudaProviderFiles, reportCuda, runtimeVersion } from '@easel/pipeline'
import { cudaWheel, installCudaProvider } from '../setup/install-cuda-provider.ts'
import { toSize } from '../terminal/say.ts'
import { TransferLine } from '../terminal/transfer-line.ts'

/** `into`: another folder for the provider, as an image is built; then nothing is said about this machine. */
export async function setupCuda({ into, force = false }: { into?: string; force?: boolean }): Promise<number> {
  const version = await runtimeVersion()
  if (version !== cudaWheel.version)
    throw new Error(`Expected ONNX Runtime ${cudaWheel.version}, whose CUDA provider is known here, got ${version}.`)
  const folder = into ?? reportCuda().providerFolder
  if (folder === undefined) throw new Error(reportCuda().problems.join(' '))
  const isThere = cudaProviderFiles.every((name) => existsSync(join(folder, name)))
  if (isThere && !force) console.log(`The CUDA provider is in ${folder} already.`)
  else await fetchProvider(folder)
  if (into !== undefined) return 0

  const { problems, driverVersion } = reportCuda()
  if (problems.length === 0) console.log(`CUDA is complete here (driver ${driverVersion}): DEVICE=cuda npm start`)
  else console.error(`CUDA is not complete here:\n${problems.map((problem) => `  ${problem}`).join('\n')}`)
  return problems.length === 0 ? 0 : 1
}

async function fetchProvider(folder: string): Promise<void> {
  useProxy(process.env)
  const line = new TransferLine(process.stderr)
  line.say(`Fetching the CUDA provider of ONNX Runtime ${cudaWheel.version} (${toSize(cudaWheel.size)}) …`)
  await installCudaProvider({
    wheel: cudaWheel,
    files: cudaProviderFiles,
    folder,
    signal: new AbortController().signal,
    onProgress: (doneBytes, totalBytes) => line.update(doneBytes, totalBytes),
    onRetry: (reason) => line.say(`${reason}; trying again …`),
  })
  line.end()
  console.log(`The CUDA provider is in ${folder} now.`)
}
