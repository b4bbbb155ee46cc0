/** The buttons for what can be done with a finished picture. Runs in the browser. */
import type { VNode } from 'preact'
import { announce } from './announce.ts'
import { apiKey } from './api.ts'
import { toCurl, toTypeScript, type CodeOptions } from './as-code.ts'
import { ConfirmButton } from './confirm-button.tsx'
import { copyText } from './copy-text.ts'
import { isFavourite, toggleFavourite } from './favourites.ts'
import { close, toPath, type ShownPicture } from './shown-pictures.ts'
import { remove } from './jobs.ts'
import { scrollToCard } from './scroll-to-card.ts'
import { reuse, submitVariation, toSameRequest } from './settings.ts'
import { UseAsInput } from './use-as-input.tsx'

export function PictureActions({ picture }: { picture: ShownPicture }): VNode {
  const { shown, image, n } = picture
  const { job } = shown
  const { id, input } = job
  const count = input.num_images_per_prompt
  const code = (): CodeOptions => {
    return { base: new URL('.', location.href).href.replace(/\/$/, ''), keyed: apiKey.value !== '', seed: image.seed }
  }
  const vary = async (): Promise<void> => {
    const made = await submitVariation(job, image.seed)
    if (made === undefined) return
    close()
    scrollToCard(made.id)
  }
  const again = (): void => {
    reuse(job)
    close()
    announce('The form now has every setting of that picture')
    document.querySelector<HTMLElement>('#prompt')?.focus()
  }
  return (
    <div class="actions wide">
      <button type="button" aria-pressed={isFavourite(id, n)} onClick={() => toggleFavourite(id, n)}>
        {isFavourite(id, n) ? '★ Favourite' : '☆ Favourite'}
      </button>
      <button type="button" onClick={() => void vary()}>
        Variation
      </button>
      <button type="button" onClick={again}>
        Same again
      </button>
      <UseAsInput picture={picture} />
      <a class="button" href={toPath(image.url)} download>
        Download
      </a>
      <Copy label="Copy link" text={() => image.url} />
      <Copy label="Copy as curl" text={() => toCurl(toSameRequest(job), code())} />
      <Copy label="Copy as TypeScript" text={() => toTypeScript(toSameRequest(job), code())} />
      <ConfirmButton
        label={count === 1 ? 'Delete' : `Delete all ${count}`}
        question={count === 1 ? 'Delete for good?' : `Delete all ${count} for good?`}
        onConfirm={() => void remove(id)}
      />
    </div>
  )
}

function Copy({ label, text }: { label: string; text: () => string }): VNode {
  const copy = async (event: MouseEvent): Promise<void> => {
    const button = event.currentTarget as HTMLButtonElement
    const copied = await copyText(text(), button.closest('dialog') ?? document.body)
    announce(copied ? 'Copied' : 'The browser did not allow copying')
    button.textContent = copied ? 'Copied' : 'Not allowed'
    setTimeout(() => (button.textContent = label), 1500)
  }
  return (
    <button type="button" onClick={(event) => void copy(event)}>
      {label}
    </button>
  )
}
