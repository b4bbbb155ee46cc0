/** `npm run fit-preview FOLDER`: writes the model's preview_projection.json, so that even its first picture has previews. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  fitPreviewProjection,
  previewProjectionFile,
  RequestScopedPipeline,
  StableDiffusion3Pipeline,
} from '../packages/pipeline/src/index.ts'

async function fitPreview(folder: string | undefined): Promise<void> {
  if (folder === undefined) throw new Error('Expected the folder of a model, got nothing')
  const pipeline = await StableDiffusion3Pipeline.fromPretrained(folder)
  const scoped = new RequestScopedPipeline(pipeline)
  const projection = await fitPreviewProjection({
    vae: pipeline.vae,
    decodeLatents: (latents) => pipeline.decodeLatents(latents),
    generate: (request) => scoped.generate(request),
  })
  await pipeline.close()
  const lines = projection.map((weights) => `  [${weights.map((weight) => Number(weight.toPrecision(6))).join(', ')}]`)
  await writeFile(join(folder, previewProjectionFile), `[\n${lines.join(',\n')}\n]\n`)
}

try {
  await fitPreview(process.argv[2])
} catch (error) {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
}
