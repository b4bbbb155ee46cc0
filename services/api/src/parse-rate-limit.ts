/** Parses `RATE_LIMIT`. Imports nothing from the service, so that both the configuration and the middleware can use it. */

export interface RateLimit {
  /** The number of requests in a window, 1 or more. */
  requests: number
  /** The length of the window in seconds, 1 or more. */
  windowSeconds: number
}

const unitSeconds = new Map([
  ['s', 1],
  ['sec', 1],
  ['second', 1],
  ['min', 60],
  ['minute', 60],
  ['h', 3600],
  ['hour', 3600],
  ['d', 86_400],
  ['day', 86_400],
])

/** Parses `RATE_LIMIT`: `COUNT/PERIOD` with a unit or a number of seconds as the period, such as `60/min`, `5/s`, `100/3600`. */
export function parseRateLimit(text: string): RateLimit {
  const match = /^([1-9][0-9]{0,8})\/(?:([1-9][0-9]{0,6})|([a-z]+))$/.exec(text.trim())
  const unit = unitSeconds.get(match?.[3] ?? '')
  const windowSeconds = match?.[2] === undefined ? unit : Number(match[2])
  if (match === null || windowSeconds === undefined) {
    throw new Error(`Expected COUNT/PERIOD such as 60/min (${[...unitSeconds.keys()].join(', ')} or seconds), got ${text}`)
  }
  return { requests: Number(match[1]), windowSeconds }
}
