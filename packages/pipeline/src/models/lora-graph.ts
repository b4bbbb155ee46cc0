/**
 * The transformer's second graph, for rows with low-rank additions: the same weights, and two further inputs for each linear layer that any
 * LoRA has changed so far. It is written and loaded when the first such row comes, and again when a LoRA changes further layers.
 *
 * Invariant: a row comes out the same whatever the rows beside it add. Rows that add nothing run on the first graph.
 * Knows nothing about files and strengths. Runs in the engine process.
 */
import { loraGroup } from '../tensor/lora.ts'
import type { LoraLayer, LoraLayers } from '../tensor/lora.ts'
import { ClosedError } from './closed-error.ts'
import type { LoraGraphSource } from './model-part.ts'
import { OnnxSession } from './onnx-session.ts'
import type { Feed } from './onnx-session.ts'
import type { OnnxSessionOptions } from './session-options.ts'

export class LoraGraph {
  readonly source: LoraGraphSource
  readonly options: OnnxSessionOptions
  session: OnnxSession | undefined
  /** The layers for which the session has inputs. */
  linears: ReadonlySet<string> = new Set()
  /** The rows and feeds of the latest step, kept because rows mostly stay together from step to step. */
  latest: { readonly rows: readonly LoraLayers[]; readonly feeds: Readonly<Record<string, Feed>> } | undefined
  isReleased = false

  constructor(source: LoraGraphSource, options: OnnxSessionOptions) {
    this.source = source
    this.options = options
  }

  /** The session that runs these rows, and its inputs for what each row adds. Loading blocks the thread. */
  async prepare(rows: readonly LoraLayers[]): Promise<{ session: OnnxSession; feeds: Readonly<Record<string, Feed>> }> {
    const session = await this.sessionFor(rows)
    const { latest } = this
    if (latest?.rows.length !== rows.length || rows.some((row, index) => row !== latest.rows[index]))
      this.latest = { rows, feeds: this.toFeeds(rows) }
    return { session, feeds: this.latest?.feeds ?? {} }
  }

  async sessionFor(rows: readonly LoraLayers[]): Promise<OnnxSession> {
    const missing = [...new Set(rows)].some((row) => [...row.keys()].some((name) => !this.linears.has(name)))
    if (this.session !== undefined && !missing) return this.session
    const linears = new Set([...this.linears, ...rows.flatMap((row) => [...row.keys()])])
    const graph = await this.source.write(linears)
    // The previous session is released first: on a GPU each holds the weights once.
    await this.session?.release()
    this.session = undefined
    const session = await OnnxSession.load(graph, {
      ...this.options,
      inputs: [...linears].flatMap(inputsOf),
      outputs: ['out_hidden_states'],
    })
    if (this.isReleased) {
      await session.release()
      throw new ClosedError(`Expected an open session of ${graph.name}, got one closed while it was loaded`)
    }
    this.linears = linears
    this.latest = undefined
    this.session = session
    return session
  }

  toFeeds(rows: readonly LoraLayers[]): Record<string, Feed> {
    const feeds: Record<string, Feed> = {}
    for (const name of this.linears) {
      const [to, from] = this.source.shapes.get(name) as readonly [number, number]
      const layers = rows.map((row) => row.get(name))
      // Rows that all add the same thing share its memory; otherwise each row gets a copy, padded with zeros to the highest rank.
      const distinct = new Set(layers).size === 1 ? layers.slice(0, 1) : layers
      const groups = distinct.reduce((most, layer) => Math.max(most, layer?.groups ?? 0), 1)
      const [down, up] = inputsOf(name) as [string, string]
      const lay = (part: 'down' | 'up', length: number) => toFeedData(distinct, part, length)
      feeds[down] = { data: lay('down', groups * from * loraGroup), dims: [distinct.length, groups, from, loraGroup] }
      feeds[up] = { data: lay('up', groups * loraGroup * to), dims: [distinct.length, groups * loraGroup, to] }
    }
    return feeds
  }

  async release(): Promise<void> {
    this.isReleased = true
    this.latest = undefined
    await this.session?.release()
  }
}

function inputsOf(linear: string): string[] {
  return [`${linear}.lora_down`, `${linear}.lora_up`]
}

/** `length`: the number of values in each layer's part once it is padded to the most groups. */
function toFeedData(layers: readonly (LoraLayer | undefined)[], part: 'down' | 'up', length: number): Float32Array {
  const [only] = layers
  if (layers.length === 1 && only?.[part].length === length) return only[part]
  const data = new Float32Array(layers.length * length)
  for (const [index, layer] of layers.entries()) if (layer !== undefined) data.set(layer[part], index * length)
  return data
}
