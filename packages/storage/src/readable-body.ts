/** The bytes of an object on their way to a reader. */
import type { StorageError } from './storage-error.ts'

/** The same bytes, but an error while reading becomes a StorageError, which code further up could not recognise otherwise. */
export function toReadableBody(source: ReadableStream<Uint8Array>, toError: (error: unknown) => StorageError): ReadableStream<Uint8Array> {
  const reader = source.getReader()
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read()
        if (done) controller.close()
        else controller.enqueue(value)
      } catch (error) {
        controller.error(toError(error))
      }
    },
    cancel: (reason) => reader.cancel(reason),
  })
}
