/** What a call will hold in memory, computed from its sizes alone. Pure; knows nothing about limits or other calls. */
import type { MemoryNeeds } from '../runtime/memory-admission.ts'
import { sizeOf, workOf } from '../runtime/row-size.ts'
import type { GenerateCall } from './generate-call.ts'
import type { ResidentModel } from './resident-model.ts'

/**
 * How many copies of its latents a request holds at the peak of a step: the current latents, the two predictions that guidance combines (kept
 * when their rows run in different steps), the guided prediction, and the next latents.
 */
const latentCopies = 5

/** `latentDims`: (rows, channels, height / 8, width / 8) */
export function memoryNeeds(model: ResidentModel, call: GenerateCall, latentDims: readonly number[]): MemoryNeeds {
  const { transformer, tokenizer, textEncoder } = model
  const [rows, channels, height, width] = latentDims as [number, number, number, number]
  const clipTokens = tokenizer?.modelMaxLength ?? textEncoder?.config.max_position_embeddings ?? 0
  const tokens = call.embeddings?.embeds.dims[1] ?? clipTokens + call.maxSequenceLength
  const dims = { latents: [channels, height, width], embeds: [tokens] }
  const size = sizeOf(dims)
  const prompts = call.guidanceScale > 1 ? 2 : 1
  const stepRows = rows * (call.skipLayerGuidance === undefined ? prompts : prompts + 1)
  const latentBytes = channels * height * width * 4 * latentCopies
  const promptBytes = tokens * transformer.config.joint_attention_dim * 4
  // Its rows in the packed step: the prompt, the latents and the prediction.
  const packedBytes = promptBytes + channels * height * width * 4 * 2
  // What the call's LoRAs add, and a copy of it for each row that shares a step with rows of other LoRAs.
  const loraBytes = (model.loras?.bytesOf(call.loras) ?? 0) * (1 + stepRows)
  const { profile } = model.runtime.batcher
  const { start } = call
  const isPainting = start?.mask !== undefined
  const encodedPixels = start === undefined || start.areLatents || (call.resume !== undefined && !isPainting) ? 0 : call.height * call.width
  const pixels = call.outputType === 'latent' ? 0 : call.height * call.width
  return {
    requestBytes:
      rows * latentBytes +
      call.batch * prompts * promptBytes +
      stepRows * packedBytes +
      loraBytes +
      // Three channels each: float pixels of the picture being decoded, and bytes of all finished pictures.
      (rows + 4) * pixels * 3 +
      // Three channels each: bytes of the input pictures, and float pixels of the one being encoded.
      ((start?.pictures.length ?? 0) + 4) * encodedPixels * 3 +
      // The picture's latents and noise are kept for all steps.
      (isPainting ? rows * channels * height * width * 4 * 2 : 0),
    stepRows,
    rowWork: workOf(dims),
    // Two doublings beyond the knee may be tried.
    mostRows: () => Math.min(profile.mostRows(size), profile.knee(size) * 4),
    decodePixels: pixels,
    encodePixels: encodedPixels,
  }
}
