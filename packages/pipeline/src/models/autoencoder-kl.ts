/**
 * The image autoencoder, from `vae_decoder/` and, where shipped, `vae_encoder/`.
 *
 * Owns the two graphs and the numbers that belong to them. Latents here are the VAE's own: the pipeline scales and shifts them for the
 * transformer. Knows nothing about prompts or 8-bit pixels. Runs in the engine process.
 */
import { z } from 'zod'
import { concatRows, rowsOf, sliceRows } from '../tensor/rows.ts'
import { Tensor } from '../tensor/tensor.ts'
import { ModelFileError, readModelJson } from './model-file.ts'
import type { ModelPart } from './model-part.ts'
import { assertFinite } from './not-finite-error.ts'
import { OnnxSession } from './onnx-session.ts'
import type { OnnxSessionOptions } from './session-options.ts'

const autoencoderConfigSchema = z.looseObject({
  /** Factor between latents of the transformer and of the VAE. No default: a guess would give grey pictures. */
  scaling_factor: z.number().positive(),
  /** Offset between the two; absent or null means 0. */
  shift_factor: z
    .number()
    .nullish()
    .transform((value) => value ?? 0),
  /** One per resolution; each except the first halves the sides. */
  block_out_channels: z.array(z.int().positive()).min(1),
  latent_channels: z.int().positive(),
})
export type AutoencoderKlConfig = z.infer<typeof autoencoderConfigSchema>

/** The distribution of an image's latents. */
export interface LatentDistribution {
  /** (batch, latent_channels, height / 8, width / 8) */
  readonly mean: Tensor
  /** Same dims, natural logarithm of the variance. */
  readonly logvar: Tensor
}

export class AutoencoderKL {
  readonly config: AutoencoderKlConfig
  readonly decoder: OnnxSession
  /** Undefined when the model has no encoder. */
  readonly encoder: OnnxSession | undefined

  constructor(config: AutoencoderKlConfig, decoder: OnnxSession, encoder?: OnnxSession) {
    this.config = config
    this.decoder = decoder
    this.encoder = encoder
  }

  /** `encoder`: undefined for a model that comes without one. */
  static async load(
    { configFile, graph }: ModelPart,
    encoder: ModelPart['graph'] | undefined,
    options: OnnxSessionOptions = {},
  ): Promise<AutoencoderKL> {
    const config = await readModelJson(configFile, autoencoderConfigSchema)
    const opened: OnnxSession[] = []
    const open = async (graph: ModelPart['graph'], input: string, output: string): Promise<OnnxSession> => {
      const session = await OnnxSession.load(graph, { ...options, inputs: [input], outputs: [output] })
      opened.push(session)
      return session
    }
    try {
      const decoder = await open(graph, 'latent_sample', 'sample')
      const channels = decoder.inputs.get('latent_sample')?.shape[1]
      if (typeof channels === 'number' && channels !== config.latent_channels)
        throw new ModelFileError(configFile, 'latent_channels', `${channels} as the graph's latent_sample`, `${config.latent_channels}`)
      assertRgb(configFile, 'out_channels', decoder.outputs.get('sample'))
      const encoding = encoder === undefined ? undefined : await open(encoder, 'sample', 'latent_parameters')
      assertRgb(configFile, 'in_channels', encoding?.inputs.get('sample'))
      return new AutoencoderKL(config, decoder, encoding)
    } catch (error) {
      await Promise.all(opened.map((session) => session.release()))
      throw error
    }
  }

  /** Image pixels per latent pixel along a side; 8 in every Stable Diffusion. */
  get scale(): number {
    return 2 ** (this.config.block_out_channels.length - 1)
  }

  /** (batch, latent_channels, h, w) → (batch, 3, h × scale, w × scale), values around −1 to 1. */
  async decode(latents: Tensor): Promise<Tensor> {
    const [batch, , height, width] = latents.dims as [number, number, number, number]
    const dims = [batch, 3, height * this.scale, width * this.scale]
    const output = await this.decoder.run({ latent_sample: latents }, ['sample'], { sample: dims })
    const sample = output['sample'] as Tensor
    assertFinite(sample, "the VAE's decoder", this.decoder.path)
    return sample
  }

  /** (batch, 3, height, width), values −1 to 1 → the distribution to sample from. */
  async encode(images: Tensor): Promise<LatentDistribution> {
    if (this.encoder === undefined) throw new Error('Expected a model with vae_encoder/, got one without it')
    const output = await this.encoder.run({ sample: images }, ['latent_parameters'])
    const parameters = output['latent_parameters'] as Tensor
    assertFinite(parameters, "the VAE's encoder", this.encoder.path)
    // Each row holds the means of all channels, then the logarithms of their variances. With each row cut in two, every other half holds means.
    const [batch, channels, ...sides] = parameters.dims as [number, number, number, number]
    const halves = new Tensor(parameters.data, [batch * 2, channels / 2, ...sides], parameters.dtype)
    const pick = (offset: number) =>
      concatRows(Array.from({ length: rowsOf(images) }, (_, row) => sliceRows(halves, row * 2 + offset, row * 2 + offset + 1)))
    return { mean: pick(0), logvar: pick(1) }
  }

  async release(): Promise<void> {
    await this.decoder.release()
    await this.encoder?.release()
  }
}

/** `pixels`: the graph's declaration of its picture input or output. */
function assertRgb(configFile: string, field: string, pixels: { readonly shape: readonly (number | string)[] } | undefined): void {
  const channels = pixels?.shape[1]
  if (typeof channels === 'number' && channels !== 3)
    throw new ModelFileError(configFile, field, '3, for red, green and blue', `${channels}`)
}
