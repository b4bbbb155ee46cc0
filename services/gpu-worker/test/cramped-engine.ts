/**
 * The real engine process, with a device that never frees the memory of its steps, like the arena of a GPU: once a step has had more than four rows,
 * decoding fails for lack of memory until the process is replaced.
 */
import { StableDiffusion3Pipeline } from '@easel/pipeline'
import type { FromEngine } from '../src/engine/protocol.ts'

const mostRows = 4
let mostSeen = 0

const send = process.send?.bind(process) as (message: FromEngine, callback: () => void) => boolean
process.send = ((message: FromEngine, callback: () => void) => {
  if (message.type === 'step') mostSeen = Math.max(mostSeen, message.rows)
  return send(message, callback)
}) as typeof process.send

// oxlint-disable-next-line typescript/unbound-method
const warmUp = StableDiffusion3Pipeline.prototype.warmUp
StableDiffusion3Pipeline.prototype.warmUp = async function (this: StableDiffusion3Pipeline) {
  const { vae } = this
  const decode = vae.decode.bind(vae)
  vae.decode = async (...input: Parameters<typeof decode>) => {
    if (mostSeen > mostRows) throw new Error('Failed to allocate memory for requested buffer of size 1')
    return await decode(...input)
  }
  await warmUp.call(this)
}
await import('../src/engine/engine-main.ts')
