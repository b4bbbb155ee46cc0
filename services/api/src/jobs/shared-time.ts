/** How long an owner's work takes on a device that is shared by weight (generalised processor sharing). Pure. */

export interface Work {
  /** The share of the device while others have work too, above 0. */
  weight: number
  /** The remaining device time in milliseconds. */
  workMs: number
}

/**
 * The milliseconds until `ownMs` of work are done, while each of the others gets what its weight entitles it to, but no more than it has work
 * for.
 */
export function toSharedMs(ownMs: number, weight: number, others: readonly Work[]): number {
  return others.reduce((sum, other) => sum + Math.min(other.workMs, (ownMs * other.weight) / weight), ownMs)
}
