/**
 * Which tool has quantised the weights of a file, told by the names of its tensors, so that whoever has such a file learns why it does not load.
 * Pure; float8 with a factor, which does load, is not its business.
 */

/** Tensors that only the tool's files have. */
const marks: readonly (readonly [mark: RegExp, tool: string])[] = [
  [/\.bitsandbytes__(?:nf4|fp4)$/, 'bitsandbytes in 4 bits'],
  [/\.SCB$/, 'bitsandbytes in 8 bits'],
  [/\.wscales$/, 'Nunchaku'],
  [/\.qweight$/, 'GPTQ, AWQ or a similar tool'],
  [/\.weight\._data$/, 'optimum-quanto'],
  [/\.(?:comfy_quant|weight_scale)$/, 'a tool for ComfyUI'],
]

/** For example 'quantised by Nunchaku, as NAME shows'; undefined where nothing tells. */
export function describeQuantisation(names: Iterable<string>): string | undefined {
  const all = [...names]
  for (const [mark, tool] of marks) {
    const name = all.find((each) => mark.test(each))
    if (name !== undefined) return `quantised by ${tool}, as ${name} shows`
  }
  return undefined
}
