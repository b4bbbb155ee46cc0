/** Parses `MODEL_ALIASES`. Imports nothing from the service, so that the configuration can use it. */

/** Parses `alias=model`, separated by commas. The model is an id of GET /v1/capabilities; an alias may be any name without a comma or `=`. */
export function parseModelAliases(text: string): ReadonlyMap<string, string> {
  const aliases = new Map<string, string>()
  for (const part of text.split(',').map((entry) => entry.trim())) {
    if (part === '') continue
    const [alias = '', model = '', ...rest] = part.split('=').map((name) => name.trim())
    if (alias === '' || model === '' || rest.length > 0) throw new Error(`Expected alias=model, separated by commas, got ${part}`)
    if (aliases.has(alias)) throw new Error(`Expected each alias once, got ${alias} twice`)
    aliases.set(alias, model)
  }
  return aliases
}
