/** The real engine process, except that in a call each text encoder blocks its thread for two seconds, as those of a real model do on a CPU. */
import { ClipTextEncoder } from '../../../packages/pipeline/src/models/clip-text-encoder.ts'
import { T5TextEncoder } from '../../../packages/pipeline/src/models/t5-text-encoder.ts'
import type { ToEngine } from '../src/engine/protocol.ts'

const heldUpMs = 2000
let isCalled = false
process.on('message', ({ type }: ToEngine) => (isCalled ||= type === 'generate'))

for (const { prototype } of [ClipTextEncoder, T5TextEncoder]) {
  const forward = Reflect.get(prototype, 'forward') as (...call: unknown[]) => unknown
  const heldUp = function (this: unknown, ...call: unknown[]): unknown {
    if (isCalled) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, heldUpMs)
    return forward.apply(this, call)
  }
  Object.assign(prototype, { forward: heldUp })
}
await import('../src/engine/engine-main.ts')
