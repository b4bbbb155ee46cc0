/**
 * The brush of a mask: its state, and the strokes that a pointer or the keyboard makes with it. Knows nothing about how it is shown. Runs in the
 * browser.
 */
import { signal } from '@preact/signals'
import { announce } from './announce.ts'
import { maskSize, operations, type Operation, type Point } from './mask.ts'

const arrows: Record<string, readonly [number, number]> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
}
/** Sizes in percent of the longer side. */
export const brushSizes = { min: 2, max: 40, step: 2 }

export class Brush {
  readonly size = signal(12)
  readonly erases = signal(false)
  /** Whether a movement paints, because a mouse button, a finger or the keyboard's brush is down. */
  readonly isDown = signal(false)
  /** The position of the keyboard's brush; undefined while it is not used. */
  readonly cursor = signal<Point | undefined>(undefined)

  /** The radius in pixels of the mask. */
  get radius(): number {
    return (Math.max(maskSize.value.width, maskSize.value.height) * this.size.value) / 200
  }

  /** A pointer puts the brush down here. */
  begin(point: Point): void {
    this.cursor.value = undefined
    this.#putDown(point)
  }

  extend(points: readonly Point[]): void {
    const last = operations.value.at(-1)
    if (!this.isDown.value || last?.kind !== 'stroke') return
    operations.value = [...operations.value.slice(0, -1), { ...last, points: [...last.points, ...points] }]
  }

  lift(): void {
    this.isDown.value = false
  }

  /** The keyboard no longer paints here. */
  leave(): void {
    this.lift()
    this.cursor.value = undefined
  }

  undo(): void {
    this.lift()
    operations.value = operations.value.slice(0, -1)
  }

  invert(): void {
    this.lift()
    const inverted: Operation = { kind: 'invert' }
    operations.value = [...operations.value, inverted]
  }

  /** Handles a key; returns false if the key means nothing to the brush. */
  takeKey({ key, shiftKey }: KeyboardEvent): boolean {
    const arrow = arrows[key]
    if (arrow !== undefined) {
      this.#move(arrow, Math.max(1, this.radius * (shiftKey ? 2 : 0.5)))
      return true
    }
    const acts: Record<string, () => void> = {
      ' ': () => this.#toggle(),
      z: () => this.undo(),
      u: () => this.undo(),
      e: () => (this.erases.value = !this.erases.value),
      i: () => this.invert(),
      '+': () => this.#resize(brushSizes.step),
      '-': () => this.#resize(-brushSizes.step),
    }
    const act = acts[key.toLowerCase()]
    act?.()
    return act !== undefined
  }

  #move([right, down]: readonly [number, number], step: number): void {
    const { width, height } = maskSize.value
    const { x, y } = this.#place()
    const moved = { x: Math.min(width, Math.max(0, x + right * step)), y: Math.min(height, Math.max(0, y + down * step)) }
    this.cursor.value = moved
    this.extend([moved])
  }

  #toggle(): void {
    const place = this.#place()
    this.cursor.value = place
    if (this.isDown.value) this.lift()
    else this.#putDown(place)
    announce(this.isDown.value ? 'The brush is down: arrow keys paint' : 'The brush is up')
  }

  #putDown(point: Point): void {
    this.isDown.value = true
    operations.value = [...operations.value, { kind: 'stroke', erase: this.erases.value, radius: this.radius, points: [point] }]
  }

  #resize(change: number): void {
    this.size.value = Math.min(brushSizes.max, Math.max(brushSizes.min, this.size.value + change))
  }

  /** The position of the keyboard's brush, or where it starts. */
  #place(): Point {
    const { width, height } = maskSize.value
    return this.cursor.value ?? { x: width / 2, y: height / 2 }
  }
}
