/**
 * A T5 encoder, from `text_encoder_3/`.
 *
 * Invariant: takes ids and gives one hidden state per token, without an attention mask, as Stable Diffusion 3 was trained.
 * Knows nothing about prompts or padding. Runs in the engine process.
 */
import { z } from 'zod'
import type { Tensor } from '../tensor/tensor.ts'
import { readModelJson } from './model-file.ts'
import type { ModelPart } from './model-part.ts'
import { assertFinite } from './not-finite-error.ts'
import { OnnxSession } from './onnx-session.ts'
import type { OnnxSessionOptions } from './session-options.ts'
import { toTokenFeed } from './token-feed.ts'

const t5ConfigSchema = z.looseObject({
  /** Width of a hidden state. */
  d_model: z.int().positive(),
  /** The size of its vocabulary; ids are below it. Some exports omit it. */
  vocab_size: z.int().positive().optional(),
})
export type T5Config = z.infer<typeof t5ConfigSchema>

export class T5TextEncoder {
  readonly config: T5Config
  readonly session: OnnxSession

  constructor(config: T5Config, session: OnnxSession) {
    this.config = config
    this.session = session
  }

  static async load({ configFile, graph }: ModelPart, options: OnnxSessionOptions = {}): Promise<T5TextEncoder> {
    const config = await readModelJson(configFile, t5ConfigSchema)
    const session = await OnnxSession.load(graph, {
      ...options,
      inputs: ['input_ids'],
      outputs: ['last_hidden_state'],
    })
    return new T5TextEncoder(config, session)
  }

  /** `ids`: rows of equal length. Result: (batch, sequence, d_model). */
  async forward(ids: readonly (readonly number[])[]): Promise<Tensor> {
    const feed = toTokenFeed(ids)
    const dims = [...feed.dims, this.config.d_model]
    const output = await this.session.run({ input_ids: feed }, ['last_hidden_state'], { last_hidden_state: dims })
    const states = output['last_hidden_state'] as Tensor
    assertFinite(states, 'the T5 text encoder', this.session.path)
    return states
  }

  release(): Promise<void> {
    return this.session.release()
  }
}
