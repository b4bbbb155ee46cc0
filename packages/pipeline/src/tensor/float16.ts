export function roundToFloat16(x: number): number {
  return Math.f16round(x)
}
