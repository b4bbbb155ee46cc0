/** The LoRAs that a call asks for, and the check of them. Pure; knows nothing about files. */

/** One of the LoRAs of a call. */
export interface LoraChoice {
  /** The name of a file in the LoRA folder, without its ending, or of a folder in it. */
  readonly id: string
  /** Its strength, −4 to 4. */
  readonly scale: number
}

/** A LoRA that a call used. */
export interface UsedLora extends LoraChoice {
  /** The hash of its file, in hex. */
  readonly sha256: string
}

const maxLoras = 4
const maxScale = 4

/** What was expected in place of `loras`; undefined when nothing is wrong. */
export function expectedLoras(loras: unknown, takesLoras: boolean): string | undefined {
  if (loras === undefined) return undefined
  if (!takesLoras) return 'absent, as there is no LoRA folder, or the transformer is an exported graph'
  const all: readonly unknown[] = Array.isArray(loras) ? loras : []
  const isUnique = new Set(all.map((one) => (one as Partial<LoraChoice> | null)?.id)).size === all.length
  if (Array.isArray(loras) && all.length <= maxLoras && all.every(isChoice) && isUnique) return undefined
  return `a list of at most ${maxLoras} of { id, scale }, scales from -${maxScale} to ${maxScale}, each id once`
}

function isChoice(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return false
  const { id, scale = 1 } = value as { readonly id?: unknown; readonly scale?: unknown }
  return typeof id === 'string' && typeof scale === 'number' && Math.abs(scale) <= maxScale
}
