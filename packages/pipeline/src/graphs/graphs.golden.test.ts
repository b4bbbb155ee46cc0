import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { kinds, openGraph, testModel, timestepFeed } from '../../test/open-graph.ts'
import { OnnxSession } from '../models/onnx-session.ts'
import type { Feed } from '../models/onnx-session.ts'
import type { WeightMode } from '../models/session-options.ts'
import { Generator, randn } from '../tensor/random-normal.ts'
import { Checkpoint, findWeights, readCheckpoint } from './checkpoint.ts'
import type { GraphOptions } from './layers.ts'
import { operatorChoices, plainOperators } from './operator-choices.ts'
import { writeGraph } from './write-graph.ts'

/** What torch computes from the same weights and inputs, float32 as base64 (tools/make_graph_goldens.py). */
interface Golden {
  transformer: string
  transformer_skipping_1: string
  vae_decoder: string
  vae_encoder: string
  text_encoder: { pooled: string; hidden: string }
  text_encoder_2: { pooled: string; hidden: string }
  text_encoder_3_last_tokens?: string
}

const activations = JSON.parse(readFileSync(new URL('../../test/golden/graphs/activations.json', import.meta.url), 'utf8')) as Record<
  string,
  Record<'text_encoder' | 'text_encoder_3' | 'text_encoder_3_gated', string>
>

const fused: GraphOptions = { operators: operatorChoices.cpu, computeType: 'float32', weights: 'packed' }
const plain: GraphOptions = { ...fused, operators: plainOperators }
const ways: [string, GraphOptions][] = [
  ['fused operators', fused],
  ['plain operators', plain],
  ['mapped weights', { ...fused, weights: 'mapped' }],
  ['float16', { ...fused, computeType: 'float16' }],
  ['float16, plain operators, mapped weights', { operators: plainOperators, computeType: 'float16', weights: 'mapped' }],
]

const noise = (seed: number, ...dims: number[]): Feed & { data: Float32Array } => randn(dims, new Generator(seed))
const ids = (...rows: number[][]): Feed => ({ data: Int32Array.from(rows.flat()), dims: [rows.length, rows[0]!.length] })
const clipIds = ids([0, 5, 9, 33, 1, ...Array<number>(15).fill(1)], [0, 77, 1, ...Array<number>(17).fill(1)])
const t5Ids = ids([5, 9, 33, 1, ...Array<number>(146).fill(0)])

/** The largest difference as a share of the largest expected value. */
function difference(found: Float32Array | undefined, expected: string): number {
  const values = new Float32Array(Uint8Array.from(Buffer.from(expected, 'base64')).buffer)
  if (found?.length !== values.length) return Infinity
  const size = values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
  return values.reduce((largest, value, index) => Math.max(largest, Math.abs(value - found[index]!)), 0) / size
}

describe.each(Object.entries(activations))('text encoders with %s compute what torch computes', (activation, golden) => {
  const root = mkdtempSync(join(tmpdir(), 'easel-activations-'))
  afterAll(() => rmSync(root, { recursive: true }))
  /** A text encoder with the same weights under another configuration. T5's feed-forward without a gate uses what was the gate's matrix. */
  async function open(part: 'text_encoder' | 'text_encoder_3', change: Record<string, unknown>, isGated: boolean, weights: WeightMode) {
    const folder = join(testModel('sd3-medium-kind'), part)
    const config = { ...(JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as object), ...change }
    const configFile = join(root, 'config.json')
    writeFileSync(configFile, JSON.stringify(config))
    const { source, tensors } = await readCheckpoint(findWeights(folder)!)
    const named = isGated ? tensors : new Map([...tensors].map(([name, tensor]) => [name.replace('.wi_0.', '.wi.'), tensor]))
    const bytes = await writeGraph(part, configFile, new Checkpoint(source, named), { ...fused, weights })
    return OnnxSession.load({ name: source, bytes, weights, betweenRuns: 'open' }, { intraOpNumThreads: 1 })
  }

  it.each(['packed', 'mapped'] as const)('in CLIP and in both forms of T5, %s weights', async (weights) => {
    const clip = await open('text_encoder', { hidden_act: activation }, false, weights)
    const { text_embeds } = await clip.run({ input_ids: clipIds }, ['text_embeds'])
    expect(difference(text_embeds?.data, golden.text_encoder)).toBeLessThan(2e-6)
    await clip.release()
    const named = (name: string) => ({ feed_forward_proj: name, dense_act_fn: undefined, is_gated_act: undefined })
    // If a configuration says it twice and differently, transformers takes these two fields.
    const told = (name: string, isGated: boolean) => ({ feed_forward_proj: 'gated-relu', dense_act_fn: name, is_gated_act: isGated })
    for (const [form, isGated, expected] of [
      [named(activation), false, golden.text_encoder_3],
      [named(`gated-${activation}`), true, golden.text_encoder_3_gated],
      [told(activation, false), false, golden.text_encoder_3],
      [told(activation === 'gelu' ? 'gelu_new' : activation, true), true, golden.text_encoder_3_gated],
    ] as const) {
      const t5 = await open('text_encoder_3', form, isGated, weights)
      const { last_hidden_state } = await t5.run({ input_ids: t5Ids }, ['last_hidden_state'])
      const { data, dims } = last_hidden_state!
      expect(difference(data.subarray(-dims[2]!), expected)).toBeLessThan(1e-5)
      await t5.release()
    }
  })
})

describe.each(kinds)('%s computes what torch computes', (kind) => {
  const golden = JSON.parse(readFileSync(new URL(`../../test/golden/graphs/${kind}.json`, import.meta.url), 'utf8')) as Golden

  describe.each(ways)('with %s', (_, options) => {
    const half = options.computeType === 'float16'

    it('in the transformer, with all layers and without one', async () => {
      const { config, session } = await openGraph(kind, 'transformer', options)
      const feeds = {
        hidden_states: noise(1, 2, 16, 8, 12),
        encoder_hidden_states: noise(2, 2, 20, config['joint_attention_dim']!),
        pooled_projections: noise(3, 2, config['pooled_projection_dim']!),
        timestep_proj: timestepFeed([987.380615234375, 8.928571701049805]),
      }
      const layers = config['num_layers']!
      const forward = async (skip?: number) => {
        const mask = Float32Array.from({ length: 2 * layers }, (_, at) => (at % layers === skip ? 0 : 1))
        const outputs = await session.run({ ...feeds, layer_mask: { data: mask, dims: [2, layers] } }, ['out_hidden_states'])
        return outputs['out_hidden_states']?.data
      }
      expect(difference(await forward(), golden.transformer)).toBeLessThan(half ? 4e-3 : 3e-6)
      expect(difference(await forward(1), golden.transformer_skipping_1)).toBeLessThan(half ? 4e-3 : 3e-6)
      await session.release()
    })

    it('in the decoder and the encoder of the VAE', async () => {
      const decoder = await openGraph(kind, 'vae_decoder', options)
      const { sample } = await decoder.session.run({ latent_sample: noise(4, 1, 16, 4, 6) }, ['sample'])
      expect(difference(sample?.data, golden.vae_decoder)).toBeLessThan(half ? 2e-3 : 5e-6)
      await decoder.session.release()
      const encoder = await openGraph(kind, 'vae_encoder', options)
      const outputs = await encoder.session.run({ sample: noise(5, 1, 3, 32, 48) }, ['latent_parameters'])
      expect(difference(outputs['latent_parameters']?.data, golden.vae_encoder)).toBeLessThan(half ? 2e-3 : 5e-6)
      await encoder.session.release()
    })

    it.each(['text_encoder', 'text_encoder_2'] as const)('in %s', async (part) => {
      const { config, session } = await openGraph(kind, part, options)
      const layer = `hidden_states.${config['num_hidden_layers']! - 1}`
      const outputs = await session.run({ input_ids: clipIds }, ['text_embeds', layer])
      expect(difference(outputs['text_embeds']?.data, golden[part].pooled)).toBeLessThan(half ? 2e-3 : 2e-6)
      expect(difference(outputs[layer]?.data, golden[part].hidden)).toBeLessThan(half ? 2e-3 : 2e-6)
      await session.release()
    })

    it.runIf(existsSync(join(testModel(kind), 'text_encoder_3')))('in text_encoder_3, for every distance between tokens', async () => {
      const { config, session } = await openGraph(kind, 'text_encoder_3', options)
      const outputs = await session.run({ input_ids: t5Ids }, ['last_hidden_state'])
      const last = outputs['last_hidden_state']?.data.subarray(-4 * config['d_model']!)
      expect(difference(last, golden.text_encoder_3_last_tokens as string)).toBeLessThan(half ? 4e-3 : 1e-5)
      await session.release()
    })
  })
})
