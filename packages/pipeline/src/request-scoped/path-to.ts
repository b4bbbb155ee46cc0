/**
 * Finds out whether an object can reach others: through its own properties, those of every object among them, and the entries of arrays,
 * maps and sets. It cannot look into closures and `#private` members. Knows nothing about pipelines.
 */
import { types } from 'node:util'

/** The properties that lead from `start` to the first of `targets` it finds, such as `.parts.owner`; undefined when it finds none. */
export function pathTo(start: object, targets: ReadonlySet<unknown>, skipped: ReadonlySet<unknown>): string | undefined {
  const visited = new Set<unknown>(skipped)
  const pending: { value: object; path: string }[] = [{ value: start, path: '' }]
  for (let next = pending.pop(); next !== undefined; next = pending.pop()) {
    for (const [step, child] of childrenOf(next.value)) {
      if (targets.has(child)) return next.path + step
      if (typeof child !== 'object' || child === null || visited.has(child)) continue
      visited.add(child)
      pending.push({ value: child, path: next.path + step })
    }
  }
  return undefined
}

function* childrenOf(value: object): Iterable<[step: string, child: unknown]> {
  if (types.isProxy(value) || ArrayBuffer.isView(value)) return
  if (types.isMap(value)) for (const [key, entry] of value) yield* [[`.get(${String(key)})`, entry] as [string, unknown], ['.keys()', key]]
  if (types.isSet(value)) for (const entry of value) yield ['.values()', entry]
  for (const key of Reflect.ownKeys(value)) yield [`.${String(key)}`, Object.getOwnPropertyDescriptor(value, key)?.value]
}
