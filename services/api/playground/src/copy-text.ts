/** Puts a text on the clipboard, also on plain http:// pages, where browsers offer the old way only. Runs in the browser. */

/** Whether it worked. `place`: where a text can be selected now; beside an open dialog nothing can. */
export async function copyText(text: string, place: HTMLElement): Promise<boolean> {
  // Absent where the page is neither https:// nor on this machine.
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
