import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { StableDiffusion3Pipeline } from '../src/sd3/pipeline.ts'
import { KINDS, testModel } from './open-graph.ts'

/** What diffusers' StableDiffusion3Pipeline made of the same folder with torch in float32; values as base64. */
interface Golden {
  seed: number
  call: Record<string, number | string>
  steps: string[]
  rgb: string
}

const golden = (kind: string) =>
  (JSON.parse(readFileSync(new URL(`golden/diffusers/${kind}.json`, import.meta.url), 'utf8')) as { cases: Golden[] }).cases
const demo = fileURLToPath(new URL('../../../models/tiny-scenes', import.meta.url))
const folderOf = (kind: string) => (kind === 'tiny-scenes' ? demo : testModel(kind))
const bytesOf = (base64: string) => Uint8Array.from(Buffer.from(base64, 'base64'))
const toCamel = (name: string) => name.replaceAll(/_(\w)/g, (_, letter: string) => letter.toUpperCase())
const toParams = ({ seed, call }: Golden) => ({
  ...Object.fromEntries(Object.entries(call).map(([name, value]) => [toCamel(name), value])),
  seed,
})

const report: string[] = []
afterAll(() => void process.stdout.write(`${report.join('\n')}\n`))

describe.each(['packed', 'mapped'] as const)('equal to diffusers with torch, %s weights', (weights) => {
  describe.each([...KINDS, 'tiny-scenes'])('%s', (kind) => {
    it.each(golden(kind))('seed $seed', async (expected) => {
      const pipe = await StableDiffusion3Pipeline.fromPretrained(folderOf(kind), { device: 'cpu', weights })
      const steps: number[] = []
      const { images } = await pipe.generate({
        ...toParams(expected),
        callbackOnStepEnd: (_, step, __, { latents }) => {
          const wanted = new Float32Array(bytesOf(expected.steps[step]!).buffer)
          expect(latents!.data.length).toBe(wanted.length)
          steps.push(wanted.reduce((largest, value, at) => Math.max(largest, Math.abs(value - latents!.data[at]!)), 0))
        },
      })
      await pipe.close()
      const rgb = bytesOf(expected.rgb)
      const pixels = images[0]!.data
      expect(pixels.length).toBe(rgb.length)
      const apart = rgb.map((value, at) => Math.abs(value - pixels[at]!))
      const differing = apart.filter((levels) => levels > 0).length
      report.push(
        `${kind} ${weights} seed ${expected.seed}: latents ${Math.max(...steps).toExponential(1)}, ${differing} of ${rgb.length} pixel values differ`,
      )
      expect(steps).toHaveLength(expected.steps.length)
      expect(Math.max(...steps)).toBeLessThan(2e-3)
      expect(Math.max(...apart)).toBeLessThanOrEqual(2)
      expect(apart.filter((levels) => levels > 1).length).toBeLessThanOrEqual(rgb.length / 1000)
    })
  })
})
