/**
 * A CLIP text encoder with projection, from `text_encoder/` or `text_encoder_2/`.
 *
 * Invariant: takes ids and gives one pooled vector and one hidden state per row; layers are counted from the end, as in diffusers.
 * Knows nothing about prompts or padding. Runs in the engine process.
 */
import { z } from 'zod'
import type { Tensor } from '../tensor/tensor.ts'
import { ModelFileError, readModelJson } from './model-file.ts'
import type { ModelPart } from './model-part.ts'
import { assertFinite } from './not-finite-error.ts'
import { OnnxSession } from './onnx-session.ts'
import type { OnnxSessionOptions } from './session-options.ts'
import { toTokenFeed } from './token-feed.ts'

const count = z.int().positive()

const clipTextConfigSchema = z.looseObject({
  /** Transformer layers; the graph gives one more hidden state than there are layers. */
  num_hidden_layers: count,
  /** Width of a hidden state. */
  hidden_size: count,
  /** Width of the pooled vector. */
  projection_dim: count,
  /** Longest row of ids. */
  max_position_embeddings: count,
  /** The size of its vocabulary; ids are below it. Some exports omit it. */
  vocab_size: count.optional(),
})
export type ClipTextConfig = z.infer<typeof clipTextConfigSchema>

export interface ClipTextOutput {
  /** (batch, projection_dim) */
  readonly pooled: Tensor
  /** (batch, sequence, hidden_size) from the layer before the last, or from an earlier one as clipSkip says. */
  readonly hiddenStates: Tensor
}

export class ClipTextEncoder {
  readonly config: ClipTextConfig
  readonly session: OnnxSession

  constructor(config: ClipTextConfig, session: OnnxSession) {
    this.config = config
    this.session = session
  }

  static async load({ configFile, graph }: ModelPart, options: OnnxSessionOptions = {}): Promise<ClipTextEncoder> {
    const config = await readModelJson(configFile, clipTextConfigSchema)
    const session = await OnnxSession.load(graph, { ...options, inputs: ['input_ids'], outputs: ['text_embeds'] })
    const layers = [...session.outputs.keys()].filter((name) => name.startsWith('hidden_states.')).length
    if (layers !== config.num_hidden_layers + 1) {
      await session.release()
      throw new ModelFileError(
        configFile,
        'num_hidden_layers',
        `${layers - 1}, one less than the hidden_states outputs of ${session.path}`,
        `${config.num_hidden_layers}`,
      )
    }
    return new ClipTextEncoder(config, session)
  }

  /** Largest clipSkip that still names a layer. */
  get maxClipSkip(): number {
    return this.config.num_hidden_layers - 1
  }

  /**
   * `ids`: rows of equal length, at most max_position_embeddings. `clipSkip`: how many layers before the last but one the hidden state comes
   * from, 0 to maxClipSkip, default 0.
   */
  async forward(ids: readonly (readonly number[])[], clipSkip = 0): Promise<ClipTextOutput> {
    const layer = `hidden_states.${this.config.num_hidden_layers - 1 - clipSkip}`
    const output = await this.session.run({ input_ids: toTokenFeed(ids) }, ['text_embeds', layer])
    const [pooled, hiddenStates] = [output['text_embeds'] as Tensor, output[layer] as Tensor]
    for (const tensor of [pooled, hiddenStates]) assertFinite(tensor, 'a CLIP text encoder', this.session.path)
    return { pooled, hiddenStates }
  }

  release(): Promise<void> {
    return this.session.release()
  }
}
