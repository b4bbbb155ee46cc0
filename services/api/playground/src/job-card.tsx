/** One job of the gallery: how far it is, what it looks like by now, and its pictures. Runs in the browser. */
import type { VNode } from 'preact'
import type { Job } from '@easel/contract'
import { link } from './api.ts'
import { cancel, hasEnded, type ShownJob } from './jobs.ts'
import { isWithoutWorker } from './models.ts'
import { Picture } from './picture.tsx'

export function JobCard({ shown }: { shown: ShownJob }): VNode {
  const { job, previews, canceling, problem } = shown
  const { input } = job
  const count = input.num_images_per_prompt
  return (
    <li class={`card ${job.status}${count > 1 ? ' many' : ''}`} data-job={job.id} data-status={job.status}>
      <div class="pictures">
        {job.output === null
          ? (job.status === 'queued' || job.status === 'running') &&
            Array.from({ length: count }, (_, n) => <Growing key={n} job={job} preview={previews[n]} n={n} />)
          : job.output.images.map((image, n) => <Picture key={n} job={job} image={image} n={n} />)}
      </div>
      <div class="about">
        <h3>{input.prompt}</h3>
        <p class="facts">
          {input.width} × {input.height} · {input.num_inference_steps} steps · guidance {input.guidance_scale}
          {job.timings !== null && ` · ${(job.timings.total_ms / 1000).toFixed(1)} s`}
        </p>
        {input.negative_prompt !== '' && <p class="facts">without: {input.negative_prompt}</p>}
        {!hasEnded(job) && (
          <div class="under-way">
            <progress max={Math.max(1, job.progress.total)} value={job.progress.step} aria-label={`Progress: ${input.prompt}`} />
            <p class="state">{toState(job, canceling)}</p>
            <button type="button" disabled={canceling} aria-label={`Cancel: ${input.prompt}`} onClick={() => void cancel(job.id)}>
              Cancel
            </button>
          </div>
        )}
        {job.status === 'canceled' && <p class="state">Canceled</p>}
        {job.error !== null && <p class="error">{job.error.message}</p>}
        {problem !== '' && (
          <p class="error" role="alert">
            {problem}
          </p>
        )}
      </div>
    </li>
  )
}

/** The picture as far as it is known, sharper with each preview. */
function Growing({ job, preview, n }: { job: Job; preview: string | undefined; n: number }): VNode {
  const { input, progress } = job
  const done = progress.total === 0 ? 0 : progress.step / progress.total
  const quarter = Math.min(4, Math.floor(done * 4) + 1)
  return (
    <div class={`frame growing quarter-${quarter}`}>
      {preview === undefined ? (
        <svg viewBox={`0 0 ${input.width} ${input.height}`} aria-hidden="true" />
      ) : (
        <img src={preview} width={input.width} height={input.height} alt={`Preview of picture ${n + 1}: ${input.prompt}`} />
      )}
    </div>
  )
}

function toState(job: Job, canceling: boolean): string {
  if (link.value !== 'ok') return 'Reconnecting …'
  if (canceling) return 'Canceling …'
  if (isWithoutWorker(job.input.model)) return job.status === 'queued' ? 'Waits for a worker' : 'Waits for a worker to go on'
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
