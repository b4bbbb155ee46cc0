/** One job of the gallery: a square with its pictures, finished or growing, and a line about it. Runs in the browser. */
import type { VNode } from 'preact'
import type { Job } from '@easel/contract'
import { link } from './api.ts'
import { isFavourite } from './favourites.ts'
import { open, selected, toggleSelected, toThumbnailPath, toTitle } from './shown-pictures.ts'
import { cancel, hasEnded, remove, type ShownJob } from './jobs.ts'
import { isWithoutWorker } from './models.ts'
import { retry } from './settings.ts'
import { toTileGrid } from './tile-grid.ts'
import { UseAsInput } from './use-as-input.tsx'

export function JobCard({ shown }: { shown: ShownJob }): VNode {
  const { job, problem } = shown
  const { input } = job
  /** The picture, if the job has only one. Of several pictures, one is chosen in the large view. */
  const only = job.output?.images.length === 1 ? job.output.images[0] : undefined
  const isChosen = selected.value?.has(job.id) === true
  return (
    <li class={`card${isChosen ? ' chosen' : ''}`} data-job={job.id} data-status={job.status}>
      <Square shown={shown} />
      {only !== undefined && (
        <div class="over">
          <UseAsInput picture={{ shown, image: only, n: 0 }} />
        </div>
      )}
      <div class="about">
        <h3 title={input.prompt}>{input.prompt}</h3>
        {hasEnded(job) ? (
          <p class="facts">
            {input.width} × {input.height}
            {job.timings !== null && ` · ${(job.timings.total_ms / 1000).toFixed(1)} s`} · {input.num_inference_steps} steps
          </p>
        ) : (
          <UnderWay shown={shown} />
        )}
        {problem !== '' && (
          <p class="error" role="alert">
            {problem}
          </p>
        )}
      </div>
      {selected.value !== undefined && (
        <label class="choose">
          <input type="checkbox" checked={isChosen} onChange={() => toggleSelected(job.id)} />
          <span class="visually-hidden">Select: {input.prompt}</span>
        </label>
      )}
    </li>
  )
}

/** All pictures of a job, each of them whole, in one square, so that all cards have the same shape. */
function Square({ shown }: { shown: ShownJob }): VNode {
  const { job, previews } = shown
  const count = job.input.num_images_per_prompt
  const grid = toTileGrid(count, job.input)
  const columns = { gridTemplateColumns: `repeat(${grid.columns}, 1fr)` }
  if (job.output !== null) {
    return (
      <div class="square" style={columns}>
        {job.output.images.map((image, n) => (
          <button key={n} type="button" class="tile" aria-label={`Open: ${toTitle({ shown, n })}`} onClick={() => open(job.id, n)}>
            {!grid.isFilled && <img class="backdrop" src={toThumbnailPath(image)} loading="lazy" decoding="async" alt="" />}
            <img
              src={toThumbnailPath(image)}
              width={image.width}
              height={image.height}
              loading="lazy"
              decoding="async"
              alt={toTitle({ shown, n })}
            />
            {isFavourite(job.id, n) && (
              <span class="badge" aria-hidden="true">
                ★
              </span>
            )}
          </button>
        ))}
      </div>
    )
  }
  if (hasEnded(job)) return <Ending job={job} />
  return (
    <div class="square" style={columns}>
      {Array.from({ length: count }, (_, n) => (
        <Growing key={n} job={job} preview={previews[n]} n={n} />
      ))}
    </div>
  )
}

/** Says why there is no picture, and offers what can be done about it. */
function Ending({ job }: { job: Job }): VNode {
  const { prompt } = job.input
  return (
    <div class="square ending">
      <p>
        <strong>{job.status === 'canceled' ? 'Canceled' : 'Failed'}</strong>
        {job.error !== null && <span class="error">{job.error.message}</span>}
      </p>
      <div class="actions">
        <button type="button" aria-label={`Retry: ${prompt}`} onClick={() => void retry(job)}>
          Retry
        </button>
        <button type="button" aria-label={`Dismiss: ${prompt}`} onClick={() => void remove(job.id)}>
          Dismiss
        </button>
      </div>
    </div>
  )
}

/** An unfinished picture, sharper with each preview. */
function Growing({ job, preview, n }: { job: Job; preview: string | undefined; n: number }): VNode {
  const { input, progress } = job
  const done = progress.total === 0 ? 0 : progress.step / progress.total
  const quarter = Math.min(4, Math.floor(done * 4) + 1)
  return (
    <div class={`tile growing quarter-${quarter}`}>
      {preview !== undefined && (
        <img src={preview} width={input.width} height={input.height} alt={`Preview of picture ${n + 1}: ${input.prompt}`} />
      )}
    </div>
  )
}

function UnderWay({ shown: { job, canceling } }: { shown: ShownJob }): VNode {
  const { prompt } = job.input
  return (
    <div class="under-way">
      <progress max={Math.max(1, job.progress.total)} value={job.progress.step} aria-label={`Progress: ${prompt}`} />
      <p class="state">{toState(job, canceling)}</p>
      <button type="button" disabled={canceling} aria-label={`Cancel: ${prompt}`} onClick={() => void cancel(job.id)}>
        Cancel
      </button>
    </div>
  )
}

function toState(job: Job, canceling: boolean): string {
  if (link.value !== 'ok') return 'Reconnecting …'
  if (canceling) return 'Canceling …'
  if (isWithoutWorker(job.input.model)) return job.status === 'queued' ? 'Waiting for a worker' : 'Waiting for a worker to continue it'
  const { status, progress, queue_position: position, eta_seconds: eta } = job
  const time = eta === null ? '' : ` · about ${toDuration(eta)}`
  if (status === 'queued')
    return `${position === null ? 'Queued' : position === 1 ? 'Next in the queue' : `Place ${position} in the queue`}${time}`
  if (progress.step === 0) return `Starting${time}`
  return `Step ${progress.step} of ${progress.total}${time}`
}

function toDuration(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} min`
}
