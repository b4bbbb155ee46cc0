/** Numbers and instants as people read them. Pure. */

/** `1 h 5 min`: the two largest units of a duration in seconds. */
export function toDuration(seconds: number): string {
  if (seconds < 1) return seconds <= 0 ? '0 s' : `${seconds.toPrecision(1)} s`
  const whole = Math.round(seconds)
  const units = [
    [Math.floor(whole / 86_400), 'd'],
    [Math.floor(whole / 3600) % 24, 'h'],
    [Math.floor(whole / 60) % 60, 'min'],
    [whole % 60, 's'],
  ] as const
  const first = units.findIndex(([count]) => count > 0)
  return units
    .slice(first, first + 2)
    .filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`)
    .join(' ')
}

/** A number of bytes in binary units. */
export function toMemory(bytes: number): string {
  const gibibytes = bytes / 2 ** 30
  return gibibytes >= 1 ? `${gibibytes.toFixed(1)} GiB` : `${Math.round(bytes / 2 ** 20)} MiB`
}

/** How far an instant is from the time of the reading: `5 s ago`, `in 2 min`, or `now` within a second. */
export function toDistance(instant: string, readAt: string): string {
  const seconds = (Date.parse(instant) - Date.parse(readAt)) / 1000
  if (Math.abs(seconds) < 1) return 'now'
  return seconds < 0 ? `${toDuration(-seconds)} ago` : `in ${toDuration(seconds)}`
}

export function toCount(count: number, one: string, many = `${one}s`): string {
  return `${count.toLocaleString('en')} ${count === 1 ? one : many}`
}
