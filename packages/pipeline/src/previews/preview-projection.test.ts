import { execFileSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { RequestScopedPipeline, StableDiffusion3Pipeline } from '../index.ts'
import { fitPreviewProjection, previewProjectionFile, readPreviewProjection } from './preview-projection.ts'

const folder = fileURLToPath(new URL('../../../../models/tiny-scenes', import.meta.url))

describe('the preview projection', () => {
  test('that ships with the demo model is the one that a fit gives', async () => {
    const pipeline = await StableDiffusion3Pipeline.fromPretrained(folder, { device: 'cpu' })
    try {
      const scoped = new RequestScopedPipeline(pipeline)
      const fitted = await fitPreviewProjection({
        vae: pipeline.vae,
        decodeLatents: (latents) => pipeline.decodeLatents(latents),
        generate: (request) => scoped.generate(request),
      })
      const shipped = await readPreviewProjection(folder, 16)
      // Six digits are kept. On another processor a pixel may differ by one level, which moves the weights a little.
      const distance = fitted.flatMap((weights, colour) =>
        weights.map((weight, term) => Math.abs(weight - (shipped?.[colour]?.[term] ?? NaN))),
      )
      expect(Math.max(...distance)).toBeLessThan(0.1)
    } finally {
      await pipeline.close()
    }
  })

  test('of a model that ships none is absent, and a file of another shape is refused with its path', async () => {
    const empty = await mkdtemp(join(tmpdir(), 'easel-projection-'))
    try {
      expect(await readPreviewProjection(empty, 16)).toBeUndefined()
      await writeFile(join(empty, previewProjectionFile), '[[1, 2]]')
      await expect(readPreviewProjection(empty, 16)).rejects.toThrow(
        /preview_projection\.json: expected 0 to be at least 17 entries, got \[1,2\]/,
      )
      await rm(join(empty, previewProjectionFile))
      execFileSync('mkfifo', [join(empty, previewProjectionFile)])
      await expect(readPreviewProjection(empty, 16)).rejects.toThrow(/preview_projection\.json: .* got something that is not a file/)
    } finally {
      await rm(empty, { recursive: true })
    }
  })
})
