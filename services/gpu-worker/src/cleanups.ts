/** What a service must release when it ends, in reverse order. Runs in the worker's main process. */
export class Cleanups {
  readonly #all: (() => unknown)[] = []

  add(cleanup: () => unknown): void {
    this.#all.push(cleanup)
  }

  async run(): Promise<void> {
    for (const cleanup of this.#all.splice(0).toReversed()) await cleanup()
  }
}
