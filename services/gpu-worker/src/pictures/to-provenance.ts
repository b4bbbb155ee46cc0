/** What a worker makes pictures with, for their receipts, from the engine's report and the operator's settings. Runs in the worker's main process. */
import { cpus } from 'node:os'
import sharp from 'sharp'
import type { ImageMetadataLevel, Provenance } from '@easel/contract'
import type { EngineCapabilities } from '../engine/protocol.ts'

export function toProvenance(
  { modelId, runtime, provider, graphs, scheduler }: EngineCapabilities,
  contentHash: string,
  { pngCompressionLevel, imageMetadata }: { pngCompressionLevel: number; imageMetadata: ImageMetadataLevel },
): Provenance {
  return {
    model: { id: modelId, content_hash: contentHash },
    runtime,
    provider,
    graphs: { ...graphs },
    platform: `${process.platform}-${process.arch}`,
    processor: cpus()[0]?.model ?? 'unknown',
    scheduler: { class: scheduler.class, config: { ...scheduler.config } },
    encoder: {
      name: `sharp ${sharp.versions.sharp ?? 'unknown'}, libvips ${sharp.versions.vips}`,
      png_compression_level: pngCompressionLevel,
      metadata: imageMetadata,
    },
  }
}
