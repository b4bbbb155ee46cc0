/** Paints a mask over a picture with a mouse, a finger, a pen or the keyboard. Runs in the browser. */
import { useSignalEffect } from '@preact/signals'
import type { VNode } from 'preact'
import { useMemo, useRef } from 'preact/hooks'
import { Brush, brushSizes } from './brush.ts'
import { clearMask, drawMask, fitMask, maskSize, operations, type Point } from './mask.ts'

export function MaskPainter({ url }: { url: string }): VNode {
  const brush = useMemo(() => new Brush(), [])
  return (
    <div class="painter">
      <div class="easel">
        <img
          src={url}
          alt="The picture to begin with"
          onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => fitMask(naturalWidth, naturalHeight)}
        />
        <MaskCanvas brush={brush} />
      </div>
      <div class="field">
        <label for="brush-size">Brush size</label>
        <input
          id="brush-size"
          type="range"
          {...brushSizes}
          value={brush.size}
          onInput={(event) => (brush.size.value = Number(event.currentTarget.value))}
        />
      </div>
      <div class="actions">
        <button type="button" aria-pressed={brush.erases.value} onClick={() => (brush.erases.value = !brush.erases.value)}>
          Erase
        </button>
        <button type="button" aria-disabled={operations.value.length === 0} onClick={() => brush.undo()}>
          Undo
        </button>
        <button type="button" onClick={() => brush.invert()}>
          Invert
        </button>
        <button type="button" aria-disabled={operations.value.length === 0} onClick={clearMask}>
          Clear
        </button>
      </div>
      <p class="hint" id="mask-keys">
        The painted part is drawn again. By keyboard: the arrow keys move the brush, Space puts it down or lifts it, + and − change its
        size, E erases, U undoes, I inverts.
      </p>
    </div>
  )
}

/** The mask as it is painted, over the picture. */
function MaskCanvas({ brush }: { brush: Brush }): VNode {
  const canvas = useRef<HTMLCanvasElement>(null)
  useSignalEffect(() => {
    const element = canvas.current
    const context = element?.getContext('2d')
    if (!element || !context) return
    Object.assign(element, maskSize.value)
    drawMask(context)
    if (brush.cursor.value !== undefined) drawCursor(context, brush.cursor.value, brush.radius, brush.isDown.value)
  })
  return (
    <canvas
      ref={canvas}
      tabIndex={0}
      role="application"
      aria-label="Mask: the painted part is drawn again"
      aria-describedby="mask-keys"
      onKeyDown={(event) => {
        if (brush.takeKey(event)) event.preventDefault()
      }}
      onBlur={() => brush.leave()}
      onPointerDown={(event) => {
        if (event.button !== 0 || !event.isPrimary) return
        event.currentTarget.setPointerCapture(event.pointerId)
        brush.begin(toPoint(event, event.currentTarget))
      }}
      onPointerMove={(event) => {
        if (!event.isPrimary || !event.currentTarget.hasPointerCapture(event.pointerId)) return
        const { currentTarget } = event
        const moves = event.getCoalescedEvents()
        brush.extend((moves.length > 0 ? moves : [event]).map((move) => toPoint(move, currentTarget)))
      }}
      onPointerUp={() => brush.lift()}
      onPointerCancel={() => brush.lift()}
    />
  )
}

function toPoint({ clientX, clientY }: PointerEvent, canvas: HTMLCanvasElement): Point {
  const { left, top, width, height } = canvas.getBoundingClientRect()
  return { x: ((clientX - left) / width) * canvas.width, y: ((clientY - top) / height) * canvas.height }
}

/** A ring that is visible on light and dark ground, and thicker while it paints. */
function drawCursor(context: CanvasRenderingContext2D, { x, y }: Point, radius: number, isDown: boolean): void {
  const unit = Math.max(1, context.canvas.width / 200)
  context.globalCompositeOperation = 'source-over'
  for (const [style, lineWidth] of [
    ['#000', isDown ? 5 : 3],
    ['#fff', isDown ? 3 : 1],
  ] as const) {
    context.strokeStyle = style
    context.lineWidth = lineWidth * unit
    context.beginPath()
    context.arc(x, y, radius, 0, 2 * Math.PI)
    context.stroke()
  }
}
