/**
 * Owns the mask that is being painted, as a list of strokes, and makes the black-and-white picture that the api takes.
 *
 * Invariant: what is shown and what is sent are drawn from the same operations. Runs in the browser.
 */
import { signal } from '@preact/signals'
import { uploadPicture } from './upload-picture.ts'

export interface Point {
  x: number
  y: number
}

/** Lengths are in pixels of the mask. */
export type Operation = { kind: 'stroke'; erase: boolean; radius: number; points: readonly Point[] } | { kind: 'invert' }

const colour = '#e6007e'
const longestSide = 768

export const operations = signal<readonly Operation[]>([])
/** The size of the mask in pixels: it has the picture's ratio and is as fine as painting by hand needs. */
export const maskSize = signal({ width: 1, height: 1 })

let uploaded: { of: readonly Operation[]; reference: string } | undefined

export function clearMask(): void {
  operations.value = []
}

/** Takes the size of the picture that is painted on, and drops what was painted on another one. */
export function fitMask(width: number, height: number): void {
  const scale = Math.min(1, longestSide / Math.max(width, height))
  const fitted = { width: Math.max(16, Math.round(width * scale)), height: Math.max(16, Math.round(height * scale)) }
  if (fitted.width === maskSize.value.width && fitted.height === maskSize.value.height) return
  clearMask()
  maskSize.value = fitted
}

/** Draws all strokes in one colour on a transparent ground. */
export function drawMask(context: CanvasRenderingContext2D): void {
  const { width, height } = maskSize.value
  context.globalCompositeOperation = 'source-over'
  context.clearRect(0, 0, width, height)
  context.fillStyle = colour
  context.strokeStyle = colour
  context.lineCap = 'round'
  context.lineJoin = 'round'
  for (const operation of operations.value) {
    if (operation.kind === 'invert') {
      context.globalCompositeOperation = 'source-out'
      context.fillRect(0, 0, width, height)
      continue
    }
    const { erase, radius, points } = operation
    context.globalCompositeOperation = erase ? 'destination-out' : 'source-over'
    context.lineWidth = radius * 2
    context.beginPath()
    // Browsers do not draw a line without length, so a single point becomes a line too short to notice.
    for (const { x, y } of points) context.lineTo(x, y)
    if (points.length === 1 && points[0] !== undefined) context.lineTo(points[0].x + 0.01, points[0].y)
    context.stroke()
  }
}

/** Uploads the mask, white where it was painted, and returns the value for a job's `mask`; undefined when nothing was painted. */
export async function uploadMask(): Promise<string | undefined> {
  const painted = operations.value
  if (painted.length === 0) return undefined
  if (uploaded?.of === painted) return uploaded.reference
  const canvas = Object.assign(document.createElement('canvas'), maskSize.value)
  const context = canvas.getContext('2d')
  if (context === null) throw new Error('Expected a canvas to draw on, got none')
  drawMask(context)
  fillAll(context, 'source-in', '#fff')
  fillAll(context, 'destination-over', '#000')
  const picture = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, 'image/png'))
  if (picture === null) throw new Error('Expected the mask as a PNG, got nothing')
  uploaded = { of: painted, reference: await uploadPicture(picture) }
  return uploaded.reference
}

function fillAll(context: CanvasRenderingContext2D, operation: GlobalCompositeOperation, fill: string): void {
  context.globalCompositeOperation = operation
  context.fillStyle = fill
  context.fillRect(0, 0, context.canvas.width, context.canvas.height)
}
