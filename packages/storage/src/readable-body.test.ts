import { text } from 'node:stream/consumers'
import { expect, test } from 'vitest'
import { toReadableBody } from './readable-body.ts'
import { StorageError } from './storage-error.ts'

const toError = (error: unknown): StorageError => new StorageError('unavailable', `broke off: ${(error as Error).message}`)
const piece = new TextEncoder().encode('half')

test('the bytes come through, and what interrupts them becomes an error of the store', async () => {
  const whole = new ReadableStream<Uint8Array>({
    start(controller) {
      controller.enqueue(piece)
      controller.enqueue(piece)
      controller.close()
    },
  })
  expect(await text(toReadableBody(whole, toError))).toBe('halfhalf')
  const broken = new ReadableStream<Uint8Array>({ pull: (controller) => controller.error(new Error('ECONNRESET')) })
  await expect(text(toReadableBody(broken, toError))).rejects.toMatchObject({ name: 'StorageError', message: 'broke off: ECONNRESET' })
})

test('a reader that stops cancels the source', async () => {
  let reason: unknown
  const source = new ReadableStream<Uint8Array>({
    pull: (controller) => controller.enqueue(piece),
    cancel: (why) => {
      reason = why
    },
  })
  await toReadableBody(source, toError).cancel('enough')
  expect(reason).toBe('enough')
})
