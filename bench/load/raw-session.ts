/**
 * The yardstick: the same graphs run by ONNX Runtime in a plain loop, with inputs and outputs made once. No batcher, scheduler, guidance or
 * event loop comes between two runs, so nothing in this process can be faster.
 */
import type { StableDiffusion3Pipeline } from '@easel/pipeline'
import { timestepChannels } from '../../packages/pipeline/src/models/timestep-proj.ts'
import { runRequests } from './in-flight.ts'

type Session = StableDiffusion3Pipeline['transformer']['session']
type NativeSession = NonNullable<Session['native']>
type OrtTensor = InstanceType<Session['runtime']['Tensor']>

interface PreparedRun {
  readonly native: NativeSession
  readonly feeds: Record<string, OrtTensor>
  readonly outputs: Record<string, OrtTensor>
}

export class RawSession {
  readonly pipeline: StableDiffusion3Pipeline
  /** Pixels. */
  readonly side: number
  readonly prepared = new Map<number, PreparedRun>()

  /** The number of text tokens in a row. */
  readonly tokens: number

  constructor(pipeline: StableDiffusion3Pipeline, side: number, tokens: number) {
    this.pipeline = pipeline
    this.side = side
    this.tokens = tokens
  }

  /** `side`: of the square picture, in pixels. Runs one step through the engine to see what its rows look like. */
  static async open(pipeline: StableDiffusion3Pipeline, side: number = pipeline.defaults.width): Promise<RawSession> {
    await runRequests(pipeline, 1, 1, { width: side, height: side, numInferenceSteps: 1 })
    const size = pipeline.engineStats().lastStep?.size ?? ''
    const latent = side / pipeline.vae.scale
    const match = new RegExp(`^${latent}x${latent}\\+(\\d+)$`).exec(size)
    if (match === null) throw new Error(`Expected a step of ${latent}x${latent} latents and its text tokens, got "${size}"`)
    return new RawSession(pipeline, side, Number(match[1]))
  }

  /** Runs the transformer once for each number of rows, in order, and returns the total in milliseconds. */
  async runSteps(rowCounts: readonly number[]): Promise<number> {
    const runs = rowCounts.map((rows) => this.prepare(rows))
    const startedAt = performance.now()
    for (const { native, feeds, outputs } of runs) await native.run(feeds, outputs)
    return performance.now() - startedAt
  }

  /** Decodes that many pictures, one by one, and returns the total in milliseconds. */
  async runDecodes(pictures: number): Promise<number> {
    const { vae } = this.pipeline
    const { runtime, native } = vae.decoder
    if (native === undefined) throw new Error('Expected an open pipeline, got a closed one')
    const latent = this.side / vae.scale
    const latents = [1, vae.config.latent_channels, latent, latent]
    const pixels = [1, 3, this.side, this.side]
    const feeds = { latent_sample: new runtime.Tensor('float32', filled(latents), latents) }
    const outputs = { sample: new runtime.Tensor('float32', filled(pixels), pixels) }
    const startedAt = performance.now()
    for (let picture = 0; picture < pictures; picture++) await native.run(feeds, outputs)
    return performance.now() - startedAt
  }

  prepare(rows: number): PreparedRun {
    const known = this.prepared.get(rows)
    if (known !== undefined) return known
    const { transformer, vae } = this.pipeline
    const { runtime, native } = transformer.session
    if (native === undefined) throw new Error('Expected an open pipeline, got a closed one')
    const feeds = transformerFeeds(transformer, { rows, latentSide: this.side / vae.scale, tokens: this.tokens })
    const { dims } = feeds['hidden_states'] as OrtTensor
    const run = { native, feeds, outputs: { out_hidden_states: new runtime.Tensor('float32', filled(dims), dims) } }
    this.prepared.set(rows, run)
    return run
  }
}

/** All inputs that the graph takes, whether it was exported or is our own. */
export function transformerFeeds(
  { config, session, layers = 0 }: StableDiffusion3Pipeline['transformer'],
  { rows, latentSide, tokens }: { readonly rows: number; readonly latentSide: number; readonly tokens: number },
): Record<string, OrtTensor> {
  const dims: Readonly<Record<string, readonly number[]>> = {
    hidden_states: [rows, config.in_channels, latentSide, latentSide],
    encoder_hidden_states: [rows, tokens, config.joint_attention_dim],
    pooled_projections: [rows, config.pooled_projection_dim],
    timestep: [rows],
    timestep_proj: [rows, timestepChannels],
    layer_mask: [rows, layers],
  }
  const feeds: Record<string, OrtTensor> = {}
  for (const name of session.inputs.keys()) {
    const own = dims[name]
    if (own === undefined) throw new Error(`Expected a transformer that takes ${Object.keys(dims).join(', ')}, got one that takes ${name}`)
    const data = name === 'layer_mask' ? new Float32Array(rows * layers).fill(1) : filled(own)
    feeds[name] = new session.runtime.Tensor('float32', data, own)
  }
  return feeds
}

/** Not filled with zeros, because some kernels are faster with them. */
function filled(dims: readonly number[]): Float32Array {
  const data = new Float32Array(dims.reduce((product, length) => product * length, 1))
  for (let at = 0; at < data.length; at++) data[at] = ((at * 7919) % 1000) / 500 - 1
  return data
}
