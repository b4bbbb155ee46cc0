/**
 * Recognises by the names of its tensors which tool has quantised a file, so that the error says why the file does not load.
 * Pure. Scaled float8, which does load, is handled in `weight-scales.ts`.
 */
import type { StoredTensor } from './safetensors.ts'

/** Tensors that only the tool's files have. */
const marks: readonly (readonly [mark: RegExp, tool: string])[] = [
  [/\.bitsandbytes__(?:nf4|fp4)$/, 'bitsandbytes in 4 bits'],
  [/\.SCB$/, 'bitsandbytes in 8 bits'],
  [/\.wscales$/, 'Nunchaku'],
  [/\.qweight$/, 'GPTQ, AWQ or a similar tool'],
  [/\.weight\._data$/, 'optimum-quanto'],
]
/** ComfyUI's tools write these beside float8 weights, which load, and beside 8-bit integers, which do not. */
const comfyMark = /^(.+)\.(?:comfy_quant|weight_scale)$/

/** For example 'quantised by Nunchaku, as NAME shows'; undefined if no tool is recognised. */
export function describeQuantisation(tensors: ReadonlyMap<string, StoredTensor>): string | undefined {
  const names = [...tensors.keys()]
  for (const [mark, tool] of marks) {
    const name = names.find((each) => mark.test(each))
    if (name !== undefined) return `quantised by ${tool}, as ${name} shows`
  }
  const ofBytes = (name: string): boolean => /^[IU]8$/.test(tensors.get(`${comfyMark.exec(name)?.[1]}.weight`)?.dtype ?? '')
  const name = names.find(ofBytes)
  return name === undefined ? undefined : `quantised by a tool for ComfyUI, as ${name} shows`
}
