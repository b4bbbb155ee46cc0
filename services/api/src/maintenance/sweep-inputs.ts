/**
 * Removes input pictures that are no longer needed: those of expired uploads, of requests that were interrupted before their job was made, and
 * what an earlier attempt has left. Holders that stay are not checked again. Runs in the api.
 */
import type { AppDeps } from '../app-deps.ts'
import { releaseInput } from '../inputs/hold-inputs.ts'

export type SweepInputsNeeds = Pick<AppDeps, 'inputs' | 'logger' | 'now' | 'storage' | 'store'>

const pageSize = 200

/** Returns how many holders it removed. */
export async function sweepInputs(deps: SweepInputsNeeds): Promise<number> {
  const { inputs, now, store } = deps
  let swept = 0
  for (;;) {
    const due = await inputs.listDue(now(), pageSize)
    let failed = 0
    for (const { sha256, holder } of due) {
      const [kind, id = ''] = holder.split(':')
      if (holder !== 'leaving' && kind === 'job' && (await store.get(id)) !== undefined) {
        await inputs.settle(sha256, holder)
        continue
      }
      if (kind === 'upload') await inputs.deleteUpload(id)
      if (await releaseInput(deps, sha256, holder)) swept++
      else failed++
    }
    // Holders whose removal failed are due again later, not now.
    if (due.length < pageSize || failed > 0) return swept
  }
}
