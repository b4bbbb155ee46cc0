/** The record beside a pulled model: where it came from, and what each of its files must be. */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'

const recordFile = '.easel.json'

const recordSchema = z.object({
  origin: z.string().describe('Address and version of what was pulled.'),
  pulled_at: z.iso.datetime(),
  files: z.record(z.string(), z.object({ size: z.int(), sha256: z.string(), git_oid: z.string().optional() })),
})
export type PullRecord = z.infer<typeof recordSchema>

export async function readPullRecord(folder: string): Promise<PullRecord | undefined> {
  try {
    return recordSchema.parse(JSON.parse(await readFile(join(folder, recordFile), 'utf8')))
  } catch {
    return undefined
  }
}

export async function writePullRecord(folder: string, record: PullRecord): Promise<void> {
  const draft = join(folder, `${recordFile}.draft`)
  await writeFile(draft, `${JSON.stringify(record, undefined, 2)}\n`)
  await rename(draft, join(folder, recordFile))
}
