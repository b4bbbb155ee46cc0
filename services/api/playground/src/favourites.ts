/** Owns the list of favourite pictures, by job and number. It is kept only in this browser. Runs in the browser. */
import { effect, signal } from '@preact/signals'

const name = 'easel.favourites'

export const favourites = signal<ReadonlySet<string>>(stored())
/** Whether the gallery shows only favourites. */
export const onlyFavourites = signal(false)

effect(() => localStorage.setItem(name, JSON.stringify([...favourites.value])))

export function isFavourite(jobId: string, n: number): boolean {
  return favourites.value.has(`${jobId}-${n}`)
}

export function toggleFavourite(jobId: string, n: number): void {
  const key = `${jobId}-${n}`
  const others = new Set(favourites.value)
  if (!others.delete(key)) others.add(key)
  favourites.value = others
}

function stored(): Set<string> {
  try {
    const keys: unknown = JSON.parse(localStorage.getItem(name) ?? '[]')
    return new Set(Array.isArray(keys) ? keys.filter((key) => typeof key === 'string') : [])
  } catch {
    return new Set()
  }
}

/** Forgets the favourites of a job that is gone. */
export function dropFavourites(jobId: string): void {
  favourites.value = new Set([...favourites.value].filter((key) => !key.startsWith(jobId)))
}
