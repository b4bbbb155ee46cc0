/** The gallery: its tools, the cards, and the button for older ones. Runs in the browser. */
import type { VNode } from 'preact'
import { keyWanted } from './api.ts'
import { ConfirmButton } from './confirm-button.tsx'
import { favourites, onlyFavourites } from './favourites.ts'
import { selected, shownJobs } from './shown-pictures.ts'
import { JobCard } from './job-card.tsx'
import { galleryState, jobs, loadOlder, olderCursor, remove } from './jobs.ts'

export function Gallery(): VNode {
  return (
    <section class="gallery" aria-labelledby="gallery-title">
      <div class="tools">
        <h2 id="gallery-title">Pictures</h2>
        {selected.value === undefined ? <GalleryTools /> : <SelectionTools chosen={selected.value} />}
      </div>
      {shownJobs.value.length === 0 ? (
        <p class="empty">{toEmptySentence()}</p>
      ) : (
        <ul class="cards">
          {shownJobs.value.map((shown) => (
            <JobCard key={shown.job.id} shown={shown} />
          ))}
        </ul>
      )}
      {olderCursor.value !== null && !onlyFavourites.value && (
        <button type="button" class="older" onClick={() => void loadOlder()}>
          Show older pictures
        </button>
      )}
    </section>
  )
}

function GalleryTools(): VNode | null {
  if (jobs.value.length === 0) return null
  return (
    <div class="actions">
      {(favourites.value.size > 0 || onlyFavourites.value) && (
        <button type="button" aria-pressed={onlyFavourites.value} onClick={() => (onlyFavourites.value = !onlyFavourites.value)}>
          ★ Favourites
        </button>
      )}
      <button type="button" onClick={() => (selected.value = new Set())}>
        Select
      </button>
    </div>
  )
}

function SelectionTools({ chosen }: { chosen: ReadonlySet<string> }): VNode {
  const removeChosen = (): void => {
    selected.value = undefined
    for (const id of chosen) void remove(id)
  }
  return (
    <div class="actions">
      <ConfirmButton
        label={`Delete ${chosen.size} selected`}
        question={`Delete ${chosen.size} for good?`}
        disabled={chosen.size === 0}
        onConfirm={removeChosen}
      />
      <button type="button" onClick={() => (selected.value = undefined)}>
        Done
      </button>
    </div>
  )
}

function toEmptySentence(): string {
  if (keyWanted.value) return 'The pictures are shown once you have given an API key.'
  if (galleryState.value === 'loading') return 'Looking for pictures …'
  return onlyFavourites.value ? 'No favourites yet.' : 'Nothing here yet. The first picture is one prompt away.'
}
