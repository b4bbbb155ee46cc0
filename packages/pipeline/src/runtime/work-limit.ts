/**
 * How much work a step may take after something other than a step has found no memory.
 *
 * ONNX Runtime keeps the memory that its largest run took. When a decoding then finds none, only smaller steps leave room for it, often only
 * from the next process on. So each shortage limits steps to half the work of the largest step so far. The limit doubles again later, after
 * twice as many steps each time, because the shortage may have had another cause.
 * Invariant: shortages that follow within those steps are the same shortage and teach nothing more. Pure; knows nothing about rows or files.
 */

/** What is kept on disk beyond the process. */
export interface WorkLesson {
  /** The most work that a step may have. */
  readonly work: number
  /** The number of shortages so far. */
  readonly shortages: number
}

/** The number of steps without a shortage after which the limit doubles for the first time. */
const recoverySteps = 400

export class WorkLimit {
  /** The work of this process's largest step. */
  largest = 0
  steps = 0
  lesson: WorkLesson | undefined
  /** How many steps there had been when the shortage came, and whether it came in this process. */
  atStep = 0
  isFresh = false

  /** The most work that a step may have now. */
  get work(): number {
    if (this.lesson === undefined) return Infinity
    const { work, shortages } = this.lesson
    return work * 2 ** Math.floor((this.steps - this.atStep) / (recoverySteps * 2 ** (shortages - 1)))
  }

  observeStep(work: number): void {
    this.steps++
    this.largest = Math.max(this.largest, work)
  }

  observeShortage(): void {
    if (this.largest === 0 || (this.isFresh && this.steps - this.atStep < recoverySteps)) return
    this.lesson = { work: Math.min(this.largest, this.work) / 2, shortages: (this.lesson?.shortages ?? 0) + 1 }
    this.atStep = this.steps
    this.isFresh = true
  }

  /** Starts from what an earlier process learnt. */
  restore(lesson: WorkLesson): void {
    this.lesson = lesson
    this.atStep = this.steps
    this.isFresh = false
  }
}
