/**
 * Keeps a batch profile on disk, so that a process starts with what the previous one has measured and learnt.
 *
 * There is one JSON file for each combination of model, device and processor, because times measured on other hardware mean nothing here.
 * Invariant: it never causes a failure. A folder that cannot be written, a damaged file or another version only means measuring again.
 * Knows nothing about how the times are used. Runs in the engine process.
 */
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { availableParallelism, cpus } from 'node:os'
import { join } from 'node:path'
import { z } from 'zod'
import type { BatchProfile } from './batch-profile.ts'
import { writeCacheFile } from './write-cache-file.ts'

const fileSchema = z.object({
  version: z.literal(1),
  /** How long a step takes, in milliseconds, by size and number of rows. */
  stepMs: z.record(z.string(), z.record(z.string().regex(/^[1-9]\d*$/), z.number().positive())),
  /** What was learnt from the last shortage of memory outside a step. */
  workLimit: z.object({ work: z.number().positive(), shortages: z.int().positive() }).optional(),
})

/** How often to check whether there is something new to save, in milliseconds. */
const saveIntervalMs = 20_000

export class ProfileCache {
  readonly file: string
  readonly profile: BatchProfile
  readonly timer: NodeJS.Timeout
  saved = ''
  /** The saves that have been asked for. One follows another, because they write the same draft. */
  saving = Promise.resolve()

  constructor(file: string, profile: BatchProfile) {
    this.file = file
    this.profile = profile
    this.timer = setInterval(() => void this.save(), saveIntervalMs).unref()
  }

  /** `identity`: everything the times depend on except this machine's processor: the model's files, the device, the threads. */
  static async open(cacheDir: string, identity: readonly unknown[], profile: BatchProfile): Promise<ProfileCache> {
    const machine = [cpus()[0]?.model, availableParallelism()]
    const name = createHash('sha256')
      .update(JSON.stringify([identity, machine]))
      .digest('hex')
      .slice(0, 32)
    const file = join(cacheDir, `step-times-${name}.json`)
    try {
      const { stepMs, workLimit } = fileSchema.parse(JSON.parse(await readFile(file, 'utf8')))
      profile.restore(stepMs)
      if (workLimit !== undefined) profile.workLimit.restore(workLimit)
    } catch {
      // There is nothing to start from.
    }
    return new ProfileCache(file, profile)
  }

  /** Never rejects. What is known now is on disk afterwards, if it can be written. */
  save(): Promise<void> {
    return (this.saving = this.saving.then(() => this.write()))
  }

  async write(): Promise<void> {
    const text = `${JSON.stringify({ version: 1, stepMs: this.profile.toTimes(), workLimit: this.profile.workLimit.lesson })}\n`
    if (text === this.saved) return
    this.saved = text
    try {
      await writeCacheFile(this.file, text)
    } catch {
      // The next process measures again.
    }
  }

  /** Saves what is known and stops. */
  async close(): Promise<void> {
    clearInterval(this.timer)
    await this.save()
  }
}
