/**
 * The memory in which steps run, for rows of one size: the graph's inputs and output, laid out row after row and reused by every step.
 *
 * Invariant: prompt embeddings stay where they are from step to step. A row keeps its place while its request is in the step, and is
 * copied again only when another row has taken the place. Nothing here keeps a request's own memory alive. Values are stored in the
 * graph's precision: Float32Array, or float16 bits.
 * Knows nothing about requests or when a step runs. Runs in the engine process.
 */
import { fromFloat16Bits, toFloat16Bits } from '../tensor/float16.ts'
import { makeHalves } from '../tensor/float16-kernels.ts'
import type { LoraLayers } from '../tensor/lora.ts'
import type { PackedRows } from '../tensor/packed-rows.ts'
import { makeValues } from '../tensor/tensor.ts'
import type { TensorDtype, TensorValues } from '../tensor/tensor.ts'

/** One row of input; all rows in a buffer have equal lengths. */
export interface RowInput {
  /** (in_channels × height / 8 × width / 8) */
  readonly latents: TensorValues
  /** 0 to 1000. */
  readonly timestep: number
  /** (tokens × joint_attention_dim) */
  readonly embeds: Float32Array
  /** (pooled_projection_dim) */
  readonly pooled: Float32Array
  /** (layers,); undefined means that no layer is skipped. */
  readonly layerMask: Float32Array | undefined
  /** All rows of a step have one, or none has. */
  readonly lora: LoraLayers | undefined
  /** Whether embeds and pooled will not be written to again, so that a copy of them stays valid. */
  readonly keepsPrompt: boolean
}

/** The memory that a row's prompt was copied from. Held weakly, so that the copy does not keep a finished request's memory alive. */
interface PlacedPrompt {
  readonly embeds: View
  readonly pooled: View
}

interface View {
  readonly buffer: WeakRef<ArrayBufferLike>
  readonly byteOffset: number
  readonly length: number
}

export class RowBuffers {
  readonly dtype: TensorDtype
  /** The number of values in a row's layer mask; undefined when the graph takes none. */
  readonly layers: number | undefined
  /** The number of rows there is room for. */
  capacity = 0
  latents: TensorValues = new Float32Array(0)
  timesteps = new Float32Array(0)
  layerMasks = new Float32Array(0)
  embeds: TensorValues = new Float32Array(0)
  pooled: TensorValues = new Float32Array(0)
  output: TensorValues = new Float32Array(0)
  /** Whose embeddings are in each place. */
  places: (PlacedPrompt | undefined)[] = []
  /** The number of prompt rows copied so far, for telemetry and tests. */
  copiedPrompts = 0

  constructor(dtype: TensorDtype, layers?: number) {
    this.dtype = dtype
    this.layers = layers
  }

  /** Lays out the rows; row i goes to the place `places[i]` of the result. */
  pack(rows: readonly RowInput[]): { packed: PackedRows; places: number[] } {
    const first = rows[0]
    if (first === undefined) throw new RangeError('Expected at least one row to pack, got none')
    if (rows.length > this.capacity) this.grow(rows.length, first)
    const places = this.assignPlaces(rows)
    const placed = new Map<TensorValues, number>()
    const loras: LoraLayers[] = []
    for (const [index, row] of rows.entries()) {
      const place = places[index] as number
      const { length } = row.latents
      // The two rows of a guided picture have the same latents: the second row is copied from the first one's converted values.
      const twin = placed.get(row.latents)
      if (twin === undefined) write(this.latents, row.latents, place)
      else this.latents.copyWithin(place * length, twin * length, (twin + 1) * length)
      placed.set(row.latents, place)
      this.timesteps[place] = row.timestep
      if (row.lora !== undefined) loras[place] = row.lora
      if (this.layers !== undefined) this.writeLayerMask(row.layerMask, place, this.layers)
      if (isSamePrompt(this.places[place], row)) continue
      write(this.embeds, row.embeds, place)
      write(this.pooled, row.pooled, place)
      this.places[place] = row.keepsPrompt ? { embeds: toView(row.embeds), pooled: toView(row.pooled) } : undefined
      this.copiedPrompts++
    }
    const part = (values: TensorValues, rowLength: number) => values.subarray(0, rows.length * rowLength)
    const packed = {
      rows: rows.length,
      hiddenStates: part(this.latents, first.latents.length),
      timestep: this.timesteps.subarray(0, rows.length),
      encoderHiddenStates: part(this.embeds, first.embeds.length),
      pooledProjections: part(this.pooled, first.pooled.length),
      layerMask: this.layers === undefined ? undefined : this.layerMasks.subarray(0, rows.length * this.layers),
      loras: first.lora === undefined ? undefined : loras,
      output: part(this.output, first.latents.length),
    }
    return { packed, places }
  }

  /** The row in `place` as the graph has read it and as it has written it, each of `length` values, in the buffer's own memory. */
  rowAt(place: number, length: number): { latents: TensorValues; output: TensorValues } {
    const part = (values: TensorValues) => values.subarray(place * length, (place + 1) * length)
    return { latents: part(this.latents), output: part(this.output) }
  }

  /** Rows that are in place stay there; the others take free places. */
  assignPlaces(rows: readonly RowInput[]): number[] {
    const free = new Set(rows.keys())
    const places = rows.map((row) => {
      for (const place of free) {
        if (!isSamePrompt(this.places[place], row)) continue
        free.delete(place)
        return place
      }
      return undefined
    })
    const rest = free.values()
    return places.map((place) => place ?? (rest.next().value as number))
  }

  grow(rows: number, { latents, embeds, pooled }: RowInput): void {
    const make = (length: number): TensorValues => makeValues(length, this.dtype)
    this.capacity = rows
    this.timesteps = new Float32Array(rows)
    this.layerMasks = new Float32Array(rows * (this.layers ?? 0))
    this.embeds = make(rows * embeds.length)
    this.pooled = make(rows * pooled.length)
    // Latents and predictions lie in one memory, where the float16 kernels read them without a copy.
    const length = rows * latents.length
    const both = this.dtype === 'float16' ? makeHalves(length * 2) : make(length * 2)
    this.latents = both.subarray(0, length)
    this.output = both.subarray(length)
    this.places = []
  }

  writeLayerMask(mask: Float32Array | undefined, place: number, layers: number): void {
    if (mask === undefined) this.layerMasks.fill(1, place * layers, (place + 1) * layers)
    else this.layerMasks.set(mask, place * layers)
  }
}

/** Copies a row to its place among rows of its length, in the form in which the buffer stores values. */
function write(buffer: TensorValues, row: TensorValues, place: number): void {
  const target = buffer.subarray(place * row.length, (place + 1) * row.length)
  if (target instanceof Uint16Array && row instanceof Float32Array) toFloat16Bits(row, target)
  else if (target instanceof Float32Array && row instanceof Uint16Array) fromFloat16Bits(row, target)
  else target.set(row)
}

function isSamePrompt(placed: PlacedPrompt | undefined, row: RowInput): boolean {
  return placed !== undefined && showsSame(placed.embeds, row.embeds) && showsSame(placed.pooled, row.pooled)
}

function toView({ buffer, byteOffset, length }: Float32Array): View {
  return { buffer: new WeakRef(buffer), byteOffset, length }
}

/** Whether the values are in the same memory as those that were copied, and that memory has existed ever since. */
function showsSame({ buffer, byteOffset, length }: View, values: Float32Array): boolean {
  return byteOffset === values.byteOffset && length === values.length && buffer.deref() === values.buffer
}
