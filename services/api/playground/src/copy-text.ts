/** Puts a text on the clipboard. On plain http:// pages browsers offer only an older way, which it uses there. Runs in the browser. */

/** Returns whether it worked. `place`: an element in which text can be selected now; while a dialog is open, that is only the dialog. */
export async function copyText(text: string, place: HTMLElement): Promise<boolean> {
  // The clipboard is absent on a page that is neither https:// nor on this machine.
  const clipboard = navigator.clipboard as Clipboard | undefined
  if (clipboard !== undefined) {
    return await clipboard.writeText(text).then(
      () => true,
      () => copyBySelection(text, place),
    )
  }
  return copyBySelection(text, place)
}

function copyBySelection(text: string, place: HTMLElement): boolean {
  const before = document.activeElement
  const area = document.createElement('textarea')
  area.value = text
  area.className = 'visually-hidden'
  place.append(area)
  area.select()
  const copied = document.execCommand('copy')
  area.remove()
  if (before instanceof HTMLElement) before.focus()
  return copied
}
