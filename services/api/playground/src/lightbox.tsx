/** One picture, large, with its facts and actions. Arrow keys and swipes lead to its neighbours. Runs in the browser. */
import type { VNode } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import { close, opened, openNext, toPath, toThumbnailPath, toTitle } from './shown-pictures.ts'
import { PictureActions } from './picture-actions.tsx'
import { HoldBefore } from './hold-before.tsx'

/** How many pixels a finger must move sideways to ask for the next picture. */
const swipePixels = 50

export function Lightbox(): VNode | null {
  return opened.value === undefined ? null : <OpenLightbox />
}

function OpenLightbox(): VNode | null {
  const dialog = useRef<HTMLDialogElement>(null)
  const swipe = useRef(0)
  useEffect(() => {
    dialog.current?.showModal()
  }, [])
  const picture = opened.value
  if (picture === undefined) return null
  const { image, shown } = picture
  const { input, timings } = shown.job

  const turnByKey = (event: KeyboardEvent): void => {
    if (event.key === 'ArrowRight') openNext(1)
    else if (event.key === 'ArrowLeft') openNext(-1)
  }
  const turnBySwipe = (event: PointerEvent): void => {
    const moved = event.clientX - swipe.current
    if (event.pointerType !== 'mouse' && Math.abs(moved) > swipePixels) openNext(moved < 0 ? 1 : -1)
  }
  return (
    <dialog ref={dialog} class="lightbox" aria-label={toTitle(picture)} onClose={close} onKeyDown={turnByKey}>
      <div class="stage" onPointerDown={(event) => (swipe.current = event.clientX)} onPointerUp={turnBySwipe}>
        {/* The thumbnail has been loaded already and is shown until the picture has been. */}
        <img
          key={image.url}
          src={toPath(image.url)}
          style={{ backgroundImage: `url("${toThumbnailPath(image)}")` }}
          width={image.width}
          height={image.height}
          alt={toTitle(picture)}
          draggable={false}
        />
        {input.image !== undefined && <HoldBefore key={shown.job.id} jobId={shown.job.id} />}
        <button type="button" class="turn before" aria-label="Previous picture" onClick={() => openNext(-1)}>
          ‹
        </button>
        <button type="button" class="turn after" aria-label="Next picture" onClick={() => openNext(1)}>
          ›
        </button>
      </div>
      <div class="details">
        <button type="button" class="close" aria-label="Close" onClick={() => dialog.current?.close()}>
          ✕
        </button>
        <h2>{input.prompt}</h2>
        <dl>
          {input.negative_prompt !== '' && <Fact name="Without" value={input.negative_prompt} />}
          <Fact name="Seed" value={String(image.seed)} />
          <Fact name="Size" value={`${image.width} × ${image.height}`} />
          {input.strength !== undefined && <Fact name="Strength" value={String(input.strength)} />}
          <Fact name="Steps" value={String(input.num_inference_steps)} />
          <Fact name="Guidance" value={String(input.guidance_scale)} />
          <Fact name="Model" value={input.model} />
          {timings !== null && <Fact name="Took" value={`${(timings.total_ms / 1000).toFixed(1)} s`} />}
        </dl>
        <PictureActions key={`${shown.job.id}-${picture.n}`} picture={picture} />
        {shown.problem !== '' && (
          <p class="error" role="alert">
            {shown.problem}
          </p>
        )}
      </div>
    </dialog>
  )
}

function Fact({ name, value }: { name: string; value: string }): VNode {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  )
}
