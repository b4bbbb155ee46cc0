/** `easel setup cuda` puts ONNX Runtime's CUDA provider where the runtime looks for it, and says what else CUDA lacks on this machine. */
import { existsSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { cudaProviderFiles, reportCuda, runtimeVersion } from '@easel/pipeline'
import { makeFolder } from '@easel/process/make-folder'
import { cudaWheel, downloadWheel, installCudaProvider } from '../setup/install-cuda-provider.ts'

export interface SetupCudaOptions {
  /** Another folder for the provider, for building an image; this machine is then not examined. Default: where the runtime looks. */
  into?: string | undefined
  /** The wheel, if it was fetched by other means. Default: pip fetches it. */
  wheel?: string | undefined
  /** Fetch the wheel again even if the provider exists. Default false. */
  force?: boolean
}

export async function setupCuda({ into, wheel, force = false }: SetupCudaOptions): Promise<number> {
  const version = await runtimeVersion()
  if (version !== cudaWheel.version)
    throw new Error(`Expected ONNX Runtime ${cudaWheel.version}, whose CUDA provider is known here, got ${version}.`)
  const folder = into ?? reportCuda().providerFolder
  if (folder === undefined) throw new Error(reportCuda().problems.join(' '))
  const isThere = cudaProviderFiles.every((name) => existsSync(join(folder, name)))
  if (isThere && !force) console.log(`The CUDA provider is already in ${folder}.`)
  else await takeProvider(folder, wheel)
  if (into !== undefined) return 0

  const { problems, driverVersion } = reportCuda()
  if (problems.length === 0) console.log(`CUDA is complete here (driver ${driverVersion}): DEVICE=cuda npm start`)
  else console.error(`CUDA is not complete here:\n${problems.map((problem) => `  ${problem}`).join('\n')}`)
  return problems.length === 0 ? 0 : 1
}

async function takeProvider(folder: string, wheel: string | undefined): Promise<void> {
  await makeFolder(folder)
  const work = await mkdtemp(join(folder, '.wheel-'))
  try {
    if (wheel === undefined) console.error(`Fetching the CUDA provider of ONNX Runtime ${cudaWheel.version} (247 MB) with pip …`)
    await installCudaProvider(wheel ?? downloadWheel(cudaWheel, work), cudaWheel, cudaProviderFiles, folder)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
  console.log(`The CUDA provider is now in ${folder}.`)
}
