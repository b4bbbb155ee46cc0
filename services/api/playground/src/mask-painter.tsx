/** Paints a mask over a picture with a mouse, a finger, a pen or the keyboard. Runs in the browser. */
import { useSignal, useSignalEffect } from '@preact/signals'
import type { VNode } from 'preact'
import { useRef } from 'preact/hooks'
import { announce } from './announce.ts'
import { clearMask, drawMask, fitMask, maskSize, operations, type Operation, type Point } from './mask.ts'

const arrows: Record<string, readonly [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
}
/** Brush sizes in percent of the longer side. */
const brush = { min: 2, max: 40, step: 2 }

// oxlint-disable-next-line max-lines-per-function -- one component: its state, what the hand does, and what is shown.
export function MaskPainter({ url }: { url: string }): VNode {
  const canvas = useRef<HTMLCanvasElement>(null)
  const size = useSignal(12)
  const erase = useSignal(false)
  /** Whether a movement paints, because a button, a finger or the keyboard's brush is down. */
  const down = useSignal(false)
  /** The position of the keyboard's brush; undefined while it is not used. */
  const cursor = useSignal<Point | undefined>(undefined)
  const toRadius = (): number => (Math.max(maskSize.value.width, maskSize.value.height) * size.value) / 200

  useSignalEffect(() => {
    const element = canvas.current
    const context = element?.getContext('2d')
    if (!element || !context) return
    Object.assign(element, maskSize.value)
    drawMask(context)
    if (cursor.value !== undefined) drawCursor(context, cursor.value, toRadius(), down.value)
  })

  const begin = (point: Point): void => {
    down.value = true
    operations.value = [...operations.value, { kind: 'stroke', erase: erase.value, radius: toRadius(), points: [point] }]
  }
  const extend = (points: readonly Point[]): void => {
    const last = operations.value.at(-1)
    if (!down.value || last?.kind !== 'stroke') return
    operations.value = [...operations.value.slice(0, -1), { ...last, points: [...last.points, ...points] }]
  }
  const undo = (): void => {
    down.value = false
    operations.value = operations.value.slice(0, -1)
  }
  const invert = (): void => {
    down.value = false
    const inverted: Operation = { kind: 'invert' }
    operations.value = [...operations.value, inverted]
  }
  const resize = (change: number): void => {
    size.value = Math.min(brush.max, Math.max(brush.min, size.value + change))
  }

  const paintByKey = (event: KeyboardEvent): void => {
    const { width, height } = maskSize.value
    const at = cursor.value ?? { x: width / 2, y: height / 2 }
    const arrow = arrows[event.key]
    const key = event.key.toLowerCase()
    if (arrow !== undefined) {
      const step = Math.max(1, toRadius() * (event.shiftKey ? 2 : 0.5))
      cursor.value = {
        x: Math.min(width, Math.max(0, at.x + arrow[0] * step)),
        y: Math.min(height, Math.max(0, at.y + arrow[1] * step)),
      }
      extend([cursor.value])
    } else if (key === ' ') {
      cursor.value = at
      if (down.value) down.value = false
      else begin(at)
      announce(down.value ? 'The brush is down: arrow keys paint' : 'The brush is up')
    } else if (key === 'z' || key === 'u') undo()
    else if (key === 'e') erase.value = !erase.value
    else if (key === 'i') invert()
    else if (key === '+' || key === '-') resize(key === '+' ? brush.step : -brush.step)
    else return
    event.preventDefault()
  }
  const lift = (): void => {
    down.value = false
  }

  return (
    <div class="painter">
      <div class="easel">
        <img
          src={url}
          alt="The picture to begin with"
          onLoad={({ currentTarget: { naturalWidth, naturalHeight } }) => fitMask(naturalWidth, naturalHeight)}
        />
        <canvas
          ref={canvas}
          tabIndex={0}
          role="application"
          aria-label="Mask: the painted part is drawn again"
          aria-describedby="mask-keys"
          onKeyDown={paintByKey}
          onBlur={() => {
            lift()
            cursor.value = undefined
          }}
          onPointerDown={(event) => {
            if (event.button !== 0 || !event.isPrimary) return
            event.currentTarget.setPointerCapture(event.pointerId)
            cursor.value = undefined
            begin(toPoint(event, event.currentTarget))
          }}
          onPointerMove={(event) => {
            if (!event.isPrimary || !event.currentTarget.hasPointerCapture(event.pointerId)) return
            const { currentTarget } = event
            const moves = event.getCoalescedEvents()
            extend((moves.length > 0 ? moves : [event]).map((move) => toPoint(move, currentTarget)))
          }}
          onPointerUp={lift}
          onPointerCancel={lift}
        />
      </div>
      <div class="field">
        <label for="brush-size">Brush size</label>
        <input id="brush-size" type="range" {...brush} value={size} onInput={(event) => (size.value = Number(event.currentTarget.value))} />
      </div>
      <div class="actions">
        <button type="button" aria-pressed={erase.value} onClick={() => (erase.value = !erase.value)}>
          Erase
        </button>
        <button type="button" aria-disabled={operations.value.length === 0} onClick={undo}>
          Undo
        </button>
        <button type="button" onClick={invert}>
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
