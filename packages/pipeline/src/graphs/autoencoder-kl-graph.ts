/**
 * AutoencoderKL as two graphs, decoder and encoder.
 *
 * Follows diffusers' autoencoder_kl.py and vae.py@58eb52c. Inputs and outputs have the names that an optimum export gives them.
 */
import { z } from 'zod'
import { ModelFileError } from '../models/model-file.ts'
import type { Checkpoint } from './checkpoint.ts'
import { Layers } from './layers.ts'
import type { GraphOptions } from './layers.ts'
import type { OnnxGraph } from './onnx-model.ts'

const count = z.int().positive()

export const autoencoderKlGraphConfigSchema = z.looseObject({
  in_channels: count.default(3),
  out_channels: count.default(3),
  latent_channels: count,
  block_out_channels: z.array(count).min(1),
  layers_per_block: count.default(1),
  norm_num_groups: count.default(32),
  /** Two names for one activation. */
  act_fn: z.enum(['silu', 'swish']).default('silu'),
  down_block_types: z.array(z.literal('DownEncoderBlock2D')),
  up_block_types: z.array(z.literal('UpDecoderBlock2D')),
  mid_block_add_attention: z.boolean().default(true),
  use_quant_conv: z.boolean().default(true),
  use_post_quant_conv: z.boolean().default(true),
})
export type AutoencoderKlGraphConfig = z.infer<typeof autoencoderKlGraphConfigSchema>

const epsilon = 1e-6

/** latent_sample (batch, latent_channels, height, width) to sample, (batch, out_channels, 8 × height, 8 × width) with four blocks. */
export function buildVaeDecoderGraph(config: AutoencoderKlGraphConfig, checkpoint: Checkpoint, options: GraphOptions): OnnxGraph {
  const g = new VaeLayers(checkpoint, options, config)
  const channels = [...config.block_out_channels].reverse()
  const deepest = channels[0] as number
  const latentChannels = config.latent_channels
  let x = g.toCompute(g.input('latent_sample', 'float32', ['batch', latentChannels, 'latent_height', 'latent_width']))
  if (config.use_post_quant_conv) x = g.conv(x, 'post_quant_conv', latentChannels, latentChannels, { kernel: 1 })
  x = g.conv(x, 'decoder.conv_in', latentChannels, deepest)
  x = g.middle(x, 'decoder.mid_block', deepest)
  let from = deepest
  for (const [index, to] of channels.entries()) {
    const block = `decoder.up_blocks.${index}`
    x = g.within(block, () => {
      let y = g.resnets(x, block, from, to, config.layers_per_block + 1)
      if (index < channels.length - 1) y = g.conv(g.double(y), `${block}.upsamplers.0.conv`, to, to)
      return y
    })
    from = to
  }
  x = g.conv(g.silu(g.groupNorm(x, 'decoder.conv_norm_out', from)), 'decoder.conv_out', from, config.out_channels)
  g.output('sample', g.toFloat32(x), 'float32', ['batch', config.out_channels, 'height', 'width'])
  return g.graph
}

/** sample (batch, in_channels, height, width) to latent_parameters: means, then logarithms of variances. */
export function buildVaeEncoderGraph(config: AutoencoderKlGraphConfig, checkpoint: Checkpoint, options: GraphOptions): OnnxGraph {
  const g = new VaeLayers(checkpoint, options, config)
  const channels = config.block_out_channels
  let from = channels[0] as number
  let x = g.toCompute(g.input('sample', 'float32', ['batch', config.in_channels, 'height', 'width']))
  x = g.conv(x, 'encoder.conv_in', config.in_channels, from)
  for (const [index, to] of channels.entries()) {
    const block = `encoder.down_blocks.${index}`
    x = g.within(block, () => {
      const y = g.resnets(x, block, from, to, config.layers_per_block)
      // Halves the size; diffusers pads on the right and at the bottom only.
      const half = { stride: 2, pads: [0, 0, 1, 1] }
      return index < channels.length - 1 ? g.conv(y, `${block}.downsamplers.0.conv`, to, to, half) : y
    })
    from = to
  }
  x = g.middle(x, 'encoder.mid_block', from)
  const parameters = config.latent_channels * 2
  x = g.conv(g.silu(g.groupNorm(x, 'encoder.conv_norm_out', from)), 'encoder.conv_out', from, parameters)
  if (config.use_quant_conv) x = g.conv(x, 'quant_conv', parameters, parameters, { kernel: 1 })
  g.output('latent_parameters', g.toFloat32(x), 'float32', ['batch', parameters, 'latent_height', 'latent_width'])
  return g.graph
}

class VaeLayers extends Layers {
  readonly groups: number
  readonly hasAttention: boolean

  constructor(checkpoint: Checkpoint, options: GraphOptions, config: AutoencoderKlGraphConfig) {
    super(checkpoint, options)
    this.groups = config.norm_num_groups
    this.hasAttention = config.mid_block_add_attention
    const odd = config.block_out_channels.find((channels) => channels % this.groups !== 0)
    for (const field of ['down_block_types', 'up_block_types'] as const)
      if (config[field].length !== config.block_out_channels.length)
        throw new ModelFileError(
          checkpoint.source,
          `${field} of its config.json`,
          `${config.block_out_channels.length}, one for each of block_out_channels`,
          `${config[field].length}`,
        )
    if (odd !== undefined)
      throw new ModelFileError(checkpoint.source, 'block_out_channels of its config.json', `multiples of ${this.groups} groups`, `${odd}`)
  }

  /** `kernel`: side in pixels, default 3. `pads`: above, left, below, right; by default the picture keeps its size. */
  conv(
    x: string,
    name: string,
    from: number,
    to: number,
    { kernel = 3, stride = 1, pads = Array<number>(4).fill((kernel - 1) / 2) } = {},
  ): string {
    const weights = [this.weight(`${name}.weight`, [to, from, kernel, kernel]), this.weight(`${name}.bias`, [to])]
    return this.node('Conv', [x, ...weights], { kernel_shape: [kernel, kernel], strides: [stride, stride], pads })
  }

  /** Built on InstanceNormalization over the groups, because every provider has it and no other operator is faster on a CPU. */
  groupNorm(x: string, name: string, channels: number): string {
    const { groups } = this
    const ones = this.toCompute(this.float32s(`ones ${groups}`, new Float32Array(groups).fill(1)))
    const zeros = this.toCompute(this.float32s(`zeros ${groups}`, new Float32Array(groups)))
    const grouped = this.node('InstanceNormalization', [this.reshape(x, 0, groups, -1), ones, zeros], { epsilon: { float: epsilon } })
    const normed = this.node('Reshape', [grouped, this.node('Shape', [x])])
    const scaled = this.mul(normed, this.weight(`${name}.weight`, [channels], [channels, 1, 1]))
    return this.add(scaled, this.weight(`${name}.bias`, [channels], [channels, 1, 1]))
  }

  resnet(x: string, name: string, from: number, to: number): string {
    const h = this.conv(this.silu(this.groupNorm(x, `${name}.norm1`, from)), `${name}.conv1`, from, to)
    const y = this.conv(this.silu(this.groupNorm(h, `${name}.norm2`, to)), `${name}.conv2`, to, to)
    return this.add(from === to ? x : this.conv(x, `${name}.conv_shortcut`, from, to, { kernel: 1 }), y)
  }

  resnets(x: string, block: string, from: number, to: number, layers: number): string {
    let y = x
    for (let index = 0; index < layers; index++) y = this.resnet(y, `${block}.resnets.${index}`, index === 0 ? from : to, to)
    return y
  }

  middle(x: string, name: string, channels: number): string {
    return this.within(name, () => {
      let y = this.resnet(x, `${name}.resnets.0`, channels, channels)
      if (this.hasAttention) y = this.pixelAttention(y, `${name}.attentions.0`, channels)
      return this.resnet(y, `${name}.resnets.1`, channels, channels)
    })
  }

  /** Attention with one head, between all pixels. diffusers before 0.15 had other names for its layers. */
  pixelAttention(x: string, name: string, channels: number): string {
    const normed = this.groupNorm(x, `${name}.group_norm`, channels)
    const pixels = this.node('Transpose', [this.reshape(normed, 0, channels, -1)], { perm: [0, 2, 1] })
    const isOld = this.checkpoint.has(`${name}.query.weight`)
    const [q, k, v, o] = isOld ? (['query', 'key', 'value', 'proj_attn'] as const) : (['to_q', 'to_k', 'to_v', 'to_out.0'] as const)
    const linear = (values: string, part: string) => this.linear(values, `${name}.${part}`, channels, channels)
    const mixed = this.attention([linear(pixels, q), linear(pixels, k), linear(pixels, v)], { heads: 1, headDim: channels })
    const out = this.node('Transpose', [linear(mixed, o)], { perm: [0, 2, 1] })
    return this.add(x, this.node('Reshape', [out, this.node('Shape', [x])]))
  }

  /** Doubles the size: each pixel becomes four. */
  double(x: string): string {
    const scales = this.float32s('scales', Float32Array.of(1, 1, 2, 2))
    const nearest = { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' }
    return this.node('Resize', [x, '', scales], nearest)
  }
}
