/**
 * Which linear layers of a transformer a module of a LoRA file means, under any of the names that trainers give it.
 *
 * diffusers and peft name modules as the model does, kohya's scripts write underscores for dots, and some trainers keep Stability's names,
 * in which the three products of an attention are one layer or are numbered. Pure; knows nothing about files.
 */
import type { LinearShapes } from '../tensor/lora.ts'
import { toDiffusersNames } from './single-file.ts'

export interface NamedLinears {
  /** One layer, or three, whose matrices are equal parts of the stored one, from the top. */
  readonly linears: readonly string[]
  /** Whether the name was Stability's, in whose files the last norms have shift before scale. */
  readonly isStability: boolean
}

/** Prefixes of module names; some tools write two of them, one before the other. */
const prefixes =
  /^(?:base_model[._]model[._]|model[._]diffusion_model[._]|diffusion_model[._]|transformer\.|lora_transformer[._]|lora_unet_|lycoris_)+/
const streams = ['x_block', 'context_block']
const layers = ['attn.qkv', 'attn.proj', 'attn2.qkv', 'attn2.proj', 'mlp.fc1', 'mlp.fc2', 'adaLN_modulation.1']
const outer = [
  't_embedder.mlp.0',
  't_embedder.mlp.2',
  'y_embedder.mlp.0',
  'y_embedder.mlp.2',
  'final_layer.adaLN_modulation.1',
  'final_layer.linear',
]

export class LoraNames {
  readonly byName = new Map<string, NamedLinears>()

  constructor(shapes: LinearShapes) {
    const blocks = new Set<string>()
    for (const name of shapes.keys()) {
      this.byName.set(flatten(name), { linears: [name], isStability: false })
      // Early files of diffusers omit the index of the output layer.
      if (name.endsWith('.to_out.0')) this.byName.set(flatten(name.slice(0, -2)), { linears: [name], isStability: false })
      const block = /^transformer_blocks\.(\d+)\./.exec(name)?.[1]
      if (block !== undefined) blocks.add(block)
    }
    const inner = [...blocks].flatMap((block) =>
      streams.flatMap((stream) => layers.map((layer) => `joint_blocks.${block}.${stream}.${layer}`)),
    )
    for (const stability of [...inner, ...outer]) {
      const linears = toDiffusersNames(`${stability}.weight`).map((name) => name.slice(0, -'.weight'.length))
      if (!linears.every((name) => shapes.has(name))) continue
      this.byName.set(flatten(stability), { linears, isStability: true })
      // OneTrainer numbers the three products of an attention.
      if (linears.length > 1)
        for (const [index, name] of linears.entries())
          this.byName.set(flatten(`${stability}.${index}`), { linears: [name], isStability: true })
    }
  }

  /** `module`: a tensor's name up to the end of the layer's name. */
  find(module: string): NamedLinears | undefined {
    return this.byName.get(flatten(module)) ?? this.byName.get(flatten(module.replace(prefixes, '')))
  }
}

function flatten(name: string): string {
  return name.replace('.processor.', '.').replaceAll('.', '_')
}
