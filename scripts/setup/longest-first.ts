/**
 * The order in which test files are started: first those that are known to take long, so that none of them runs alone at the end. Until it has
 * seen a run, Vitest itself sorts by the size of a file, which says little about tests that start processes.
 */
import { BaseSequencer } from 'vitest/node'
import type { TestSpecification } from 'vitest/node'

/** The longest comes first. A file that is not named here only starts later. */
const long = [
  'services/api/playground/test/playground.test.ts',
  'services/gpu-worker/test/faults.test.ts',
  'packages/pipeline/test/exactness.test.ts',
  'packages/pipeline/test/request-scoped-sd3.test.ts',
  'packages/pipeline/test/batching.test.ts',
  'packages/pipeline/src/sd3/load-pipeline.test.ts',
  'examples/examples.test.ts',
  'services/api/playground/test/picture-field.test.ts',
  'packages/pipeline/test/diffusers.golden.test.ts',
  'services/gpu-worker/src/engine/engine-supervisor.test.ts',
  'packages/pipeline/src/sd3/load-weights.test.ts',
  'services/api/playground/test/outage.test.ts',
  'services/api/playground/test/admin.test.ts',
  'services/api/src/webhooks/start-delivery.test.ts',
  'services/gpu-worker/test/engine-memory.test.ts',
  'services/api/test/outage-lines.test.ts',
  'services/gpu-worker/src/jobs/process-job.test.ts',
  'services/gpu-worker/test/metrics.test.ts',
  'services/api/playground/test/gallery.test.ts',
  'packages/cli/test/commands.test.ts',
  'services/api/test/dialects.test.ts',
  'scripts/pages/snippets.test.ts',
  'services/gpu-worker/test/memory-shortage.test.ts',
  'packages/pipeline/src/graphs/check-operators.test.ts',
  'packages/cli/src/services/start.test.ts',
  'packages/cli/test/pull.test.ts',
  'services/gpu-worker/test/storage-faults.test.ts',
  'packages/pipeline/src/sd3/pipeline.golden.test.ts',
  'packages/pipeline/test/pictures-in.test.ts',
]

export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const at = long.findIndex((name) => moduleId.endsWith(`/${name}`))
      return at === -1 ? long.length : at
    }
    return (await super.sort(files)).toSorted((a, b) => rank(a) - rank(b))
  }
}
