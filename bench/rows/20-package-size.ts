/**
 * Row 20: the packages that other programs install stay small.
 *
 * The size of each tarball as `npm pack` makes it, in kB, without dependencies. There is no right side, and the value is the same every time.
 * Control: how many files each holds.
 */
import { packPackages } from '../../scripts/packages/pack-packages.ts'
import { toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'

/** In kB: enough room for a few features, but not for a test or a golden file. */
const limits = { '@easel/client': 40, '@easel/contract': 40, '@easel/pipeline': 220 }

export const row: Row = {
  id: 20,
  claims: Object.entries(limits).map(([name, limit]) => ({ name: `tarball of ${name}, kB`, target: `<= ${limit}` })),
  controls: 'Control: files in each tarball.',
  async run() {
    const packed = await packPackages()
    const sizes = Object.keys(limits).map((name) => {
      const found = packed.find((each) => each.name === name)
      if (found === undefined) throw new Error(`Expected ${name} to be packed, got ${packed.map((each) => each.name).join(', ')}`)
      return found
    })
    return {
      measured: sizes.map(({ bytes }) => toMeasured([bytes / 1000])),
      controls: Object.fromEntries(sizes.map(({ name, files }) => [name, `${files.length} files`])),
    }
  },
}
