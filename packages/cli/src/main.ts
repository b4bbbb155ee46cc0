/**
 * The entry of the command line on Node 24: the commands and their arguments. Each command has a module of its own, loaded when it runs.
 *
 * Exit codes: 0 done; 1 failed, and a sentence on stderr says why; 2 the command line is wrong; 130 ended by Ctrl-C.
 * Results go to stdout, progress and problems to stderr.
 */
import { existsSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Command, InvalidArgumentError, Option } from 'commander'
import { inputFits } from '@easel/contract'
import { DEVICES } from '@easel/pipeline/devices'
import type { DrawOptions } from './commands/draw.ts'
import type { ServiceName } from './services/service-process.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const wrongCommandLine = 2
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string }

/** Paths on the command line are relative to the folder in which it was typed; everything else is relative to the project's folder. */
const here = process.cwd()
process.chdir(root)
if (existsSync('.env')) process.loadEnvFile('.env')
const modelsDir = resolve(process.env['MODELS_DIR'] || 'models')

const easel = new Command('easel')
  .description(
    'Self-hosted text-to-image with Stable Diffusion 3. Settings are environment variables or lines of a file .env: docs/variables.md.',
  )
  .version(version, '-V, --version', 'write the version of this clone')
  .helpCommand('help [command]', 'display help for a command')
  .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : wrongCommandLine))
  .addHelpText('after', '\nExit codes: 0 done, 1 not done (stderr says why), 2 wrong command line, 130 ended by Ctrl-C.')

const services: Record<string, { names: ServiceName[]; summary: string }> = {
  start: { names: ['api', 'gpu-worker'], summary: 'run the whole service: Redis (unless REDIS_URL names one), the api and one worker' },
  api: { names: ['api'], summary: 'run the api' },
  worker: { names: ['gpu-worker'], summary: 'run a worker' },
}
for (const [name, { names, summary }] of Object.entries(services)) {
  easel
    .command(name)
    .description(summary)
    .option('--data <folder>', 'folder of the embedded Redis and the pictures (default: data)')
    .action(async ({ data }: { data?: string }) => {
      const { start } = await import('./services/start.ts')
      process.exitCode = await start(names, { data: data === undefined ? join(root, 'data') : resolve(here, data) })
    })
}

easel
  .command('draw')
  .description('draw one prompt in this process, without a service')
  .argument('<prompt>', 'what the picture shows')
  .option('-o, --output <file>', '.png, .jpg or .webp; several pictures get numbers', toOutput, 'easel.png')
  .option('-m, --model <model>', 'preset, folder, or name under MODELS_DIR', process.env['MODEL'] || 'tiny-scenes')
  .option('-n, --n <count>', 'pictures', toCount, 1)
  .option('--seed <seed>', 'the same seed draws the same picture; further pictures use the next seeds', toInteger)
  .option('--size <pixels>', 'width × height, as in 1024x768, or one side of a square', toPixels)
  .option('--steps <count>', 'denoising steps (default: what the model recommends)', toCount)
  .option('--guidance <scale>', 'weight of the prompt (default: what the model recommends)', toNumber)
  .option('--negative <prompt>', 'what the picture should not show')
  .option('--image <file|url>', 'picture to begin with; without --size the result has its size, scaled down to what the model draws')
  .option('--mask <file|url>', 'paint only its white parts; with --image')
  .option('--strength <share>', 'how far the result may depart from the image, above 0 up to 1 (default: 0.6)', toStrength)
  .addOption(new Option('--fit <fit>', 'how the image fills another --size (default: cover)').choices(inputFits))
  .addOption(new Option('--device <device>', 'where the model runs').choices(DEVICES).default(process.env['DEVICE'] || 'auto'))
  .option('--json', 'write files and seeds as JSON')
  .action(async (prompt: string, options: Omit<DrawOptions, 'here' | 'modelsDir'>, command: Command) => {
    for (const name of ['mask', 'strength', 'fit'] as const)
      if (options.image === undefined && options[name] !== undefined) command.error(`error: --${name} needs --image`)
    const { draw } = await import('./commands/draw.ts')
    process.exitCode = await draw(prompt, { ...options, here, modelsDir })
  })

easel
  .command('pull')
  .description('fetch a model into MODELS_DIR: only the files that the pipeline reads, with checks; continues an earlier pull')
  .argument('<model>', 'preset, repository of the hub (owner/name, owner/name@revision), folder, or .safetensors file')
  .option('--variant <name>', 'precision of the weights if a repository has several, such as fp16')
  .option('--no-weights', 'fetch only the small files that a model in a single .safetensors file lacks, for MODEL_PARTS')
  .option('--json', 'write the result as JSON')
  .addHelpText('after', '\nHF_TOKEN or "hf auth login" says who you are, HF_ENDPOINT names another hub, HTTPS_PROXY a proxy.')
  .action(async (model: string, options: { variant?: string; weights: boolean; json?: boolean }) => {
    const { pull } = await import('./commands/pull.ts')
    process.exitCode = await pull(model, { ...options, here, modelsDir })
  })

easel
  .command('models')
  .description('list the models in MODELS_DIR: size, type, whether they are complete, origin')
  .option('--json', 'write the list as JSON')
  .action(async (options: { json?: boolean }) => {
    const { models } = await import('./commands/models.ts')
    process.exitCode = await models(modelsDir, options)
  })

easel
  .command('rm')
  .description('remove a model from MODELS_DIR')
  .argument('<model>', 'as "easel models" calls it')
  .action(async (model: string) => {
    const { remove } = await import('./commands/models.ts')
    process.exitCode = await remove(modelsDir, model)
  })

const setup = easel.command('setup').description('install what the npm packages do not contain')
setup
  .command('cuda')
  .description("fetch ONNX Runtime's CUDA provider with pip, and say what else CUDA lacks on this machine")
  .option('--force', 'fetch it again')
  .option('--wheel <file>', 'the wheel of onnxruntime-gpu, if it was fetched by other means')
  .option('--into <folder>', 'put it there instead of beside the runtime, for building an image')
  .action(async ({ into, wheel, force }: { into?: string; wheel?: string; force?: boolean }) => {
    const { setupCuda } = await import('./commands/setup-cuda.ts')
    const absolute = (path?: string): string | undefined => (path === undefined ? undefined : resolve(here, path))
    process.exitCode = await setupCuda({ force, into: absolute(into), wheel: absolute(wheel) })
  })

easel
  .command('doctor')
  .description('check the device, memory, Redis, storage and models, and say how to solve each problem')
  .option('--json', 'write the findings as JSON')
  .action(async (options: { json?: boolean }) => {
    const { doctor } = await import('./commands/doctor.ts')
    // Exits without waiting for checks that have timed out.
    process.exit(await doctor(modelsDir, options))
  })

try {
  await easel.parseAsync()
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}

function toInteger(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Expected a whole number.')
  return Number(text)
}

function toCount(text: string): number {
  const count = toInteger(text)
  if (count < 1) throw new InvalidArgumentError('Expected a whole number from 1 up.')
  return count
}

function toOutput(text: string): string {
  if (!/\.(png|jpe?g|webp)$/i.test(text)) throw new InvalidArgumentError('Expected a file that ends in .png, .jpg, .jpeg or .webp.')
  return text
}

function toNumber(text: string): number {
  if (text.trim() === '' || !Number.isFinite(Number(text))) throw new InvalidArgumentError('Expected a number.')
  return Number(text)
}

function toStrength(text: string): number {
  const strength = toNumber(text)
  if (!(strength > 0 && strength <= 1)) throw new InvalidArgumentError('Expected a number above 0, up to 1.')
  return strength
}

function toPixels(text: string): { width: number; height: number } {
  const [, width, height = width] = /^(\d+)(?:[x×](\d+))?$/.exec(text) ?? []
  if (width === undefined) throw new InvalidArgumentError('Expected pixels, as in 1024x768 or 512.')
  return { width: Number(width), height: Number(height) }
}
