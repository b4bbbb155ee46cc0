/** A button that makes a finished picture the one that the next job begins with. Runs in the browser. */
import type { VNode } from 'preact'
import { announce } from './announce.ts'
import { chosenModel, setInputPicture } from './settings.ts'
import { close, toTitle, type ShownPicture } from './shown-pictures.ts'

/** Renders nothing if the chosen model takes no pictures. */
export function UseAsInput({ picture }: { picture: ShownPicture }): VNode | null {
  if (chosenModel.value?.accepts.image !== true) return null
  const use = (): void => {
    setInputPicture(picture.image.url)
    close()
    announce('The next job begins with that picture')
    document.querySelector<HTMLElement>('#prompt')?.focus()
  }
  return (
    <button type="button" aria-label={`Use as input: ${toTitle(picture)}`} onClick={use}>
      Use as input
    </button>
  )
}
