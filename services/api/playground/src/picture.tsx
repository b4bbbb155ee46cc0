/** One finished picture and what can be done with it. Runs in the browser. */
import type { VNode } from 'preact'
import type { Image, Job } from '@easel/contract'
import { announce } from './announce.ts'
import { apiKey } from './api.ts'
import { toCurl, toTypeScript } from './as-code.ts'
import { copyText } from './copy-text.ts'
import { reuse, submitVariation } from './settings.ts'

export function Picture({ job, image, n }: { job: Job; image: Image; n: number }): VNode {
  const { input } = job
  const title = input.num_images_per_prompt === 1 ? input.prompt : `${input.prompt} (${n + 1})`
  // The file as this page reaches the api; PUBLIC_URL may be another name of it.
  const path = `images/${image.url.slice(image.url.lastIndexOf('/') + 1)}`
  const code = (): { base: string; keyed: boolean; seed: number } => {
    return { base: new URL('.', location.href).href.replace(/\/$/, ''), keyed: apiKey.value !== '', seed: image.seed }
  }
  return (
    <figure>
      <a class="frame" href={path} target="_blank" rel="noopener" aria-label={`Open: ${title}`}>
        <img src={path} width={image.width} height={image.height} alt={title} />
      </a>
      <figcaption>
        <span class="facts">seed {image.seed}</span>
        <div class="actions">
          <button type="button" aria-label={`Variation: ${title}`} onClick={() => void submitVariation(job, image.seed)}>
            Variation
          </button>
          <a class="button" href={path} download aria-label={`Download: ${title}`}>
            Download
          </a>
          <details class="menu" onFocusOut={closeWhenLeft} onKeyDown={closeOnEscape}>
            <summary aria-label={`More: ${title}`}>More</summary>
            <ul>
              <li>
                <a href={path} target="_blank" rel="noopener">
                  Open
                </a>
              </li>
              <Copy label="Copy link" text={() => image.url} />
              <Copy label="Copy as curl" text={() => toCurl(input, code())} />
              <Copy label="Copy as TypeScript" text={() => toTypeScript(input, code())} />
              <li>
                <button type="button" onClick={() => reuse(input, image.seed)}>
                  Use these settings
                </button>
              </li>
            </ul>
          </details>
        </div>
      </figcaption>
    </figure>
  )
}

function Copy({ label, text }: { label: string; text: () => string }): VNode {
  const copy = async (event: MouseEvent): Promise<void> => {
    const button = event.currentTarget as HTMLButtonElement
    const copied = await copyText(text())
    announce(copied ? 'Copied' : 'The browser did not allow copying')
    button.textContent = copied ? 'Copied' : 'Not allowed'
    setTimeout(() => (button.textContent = label), 1500)
  }
  return (
    <li>
      <button type="button" onClick={(event) => void copy(event)}>
        {label}
      </button>
    </li>
  )
}

function closeWhenLeft(event: FocusEvent): void {
  const menu = event.currentTarget as HTMLDetailsElement
  if (event.relatedTarget !== null && !menu.contains(event.relatedTarget as Node)) menu.open = false
}

function closeOnEscape(event: KeyboardEvent): void {
  if (event.key !== 'Escape') return
  const menu = event.currentTarget as HTMLDetailsElement
  menu.open = false
  menu.querySelector('summary')?.focus()
}
