/** Gives a component the picture that a reference stands for, as a URL for an `<img>`. Runs in the browser. */
import { useEffect, useState } from 'preact/hooks'
import { ask } from './api.ts'
import { findInput } from './job-inputs.ts'
import { toPath } from './shown-pictures.ts'

const uploadPrefix = 'upload:'

/** Undefined while the picture is being loaded, and when it is unknown here or gone. */
export function useInputPicture(reference: string | undefined): string | undefined {
  const [picture, setPicture] = useState<{ reference: string; url: string }>()
  const input = reference === undefined ? undefined : findInput(reference)
  useEffect(() => {
    if (!input?.startsWith(uploadPrefix)) return undefined
    let url = ''
    let wanted = true
    // An upload is visible to its owner only, and an `<img>` could not send the key.
    const load = async (): Promise<void> => {
      const answer = await ask(`v1/uploads/${input.slice(uploadPrefix.length)}`)
      if (!answer.ok) return
      const blob = await answer.blob()
      if (!wanted) return
      url = URL.createObjectURL(blob)
      setPicture({ reference: input, url })
    }
    load().catch(() => {
      // The server does not answer; the page says so already.
    })
    return () => {
      wanted = false
      URL.revokeObjectURL(url)
    }
  }, [input])
  if (input === undefined) return undefined
  if (!input.startsWith(uploadPrefix)) return toPath(input)
  return picture?.reference === input ? picture.url : undefined
}
