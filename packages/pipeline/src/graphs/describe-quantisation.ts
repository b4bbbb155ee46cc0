/**
 * Which tool has quantised the weights of a file, told by the names of its tensors, so that whoever has such a file learns why it does not load.
 * Pure; float8 with a factor, which does load, is not its business.
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
/** Stands beside float8 too, and beside bytes, which only ComfyUI reads. */
const comfyMark = /^(.+)\.(?:comfy_quant|weight_scale)$/

/** For example 'quantised by Nunchaku, as NAME shows'; undefined where nothing tells. */
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
