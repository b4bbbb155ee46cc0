/**
 * Row 17: what an input picture costs.
 *
 * Left: time of 48 image-to-image requests, eight in flight, of 20 steps at strength 0.6: 12 steps are run, after the picture went through
 * the VAE encoder. Every request has a picture of its own, so none is in the cache. Right: text to image of 12 steps. All end as pictures.
 * Controls: the same with a mask as well; with one picture for all requests, which is encoded once; an encoding and a step alone.
 */
import { RequestScopedPipeline, StableDiffusion3Img2ImgPipeline, StableDiffusion3InpaintPipeline } from '@easel/pipeline'
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { openModel } from '../load/bench-model.ts'
import { runInFlight } from '../load/closed-loop.ts'
import { runSteadily, toRequest } from '../load/in-flight.ts'

const inFlight = 8
/** Enough that neither changes in the machine's speed within a second nor the grouping of the first eight into steps decides the result. */
const requests = 48
const side = 128
const steps = 20
const strength = 0.6
const stepsRun = 12

export const row: Row = {
  id: 17,
  claims: [{ name: 'time of image to image at strength 0.6, 8 in flight / of text to image with as many steps run', target: '<= 1.10' }],
  controls:
    'Controls: inpainting, and one picture for all requests / text to image; ms of one encoding, and of one run of the transformer.',
  async run({ pairs }) {
    const pipeline = await openModel()
    const text = new RequestScopedPipeline(pipeline)
    const img2img = new RequestScopedPipeline(StableDiffusion3Img2ImgPipeline.fromPipe(pipeline))
    const inpaint = new RequestScopedPipeline(StableDiffusion3InpaintPipeline.fromPipe(pipeline))
    const known = { data: Uint8Array.from({ length: side * side * 3 }, (_, i) => (i * 7) % 256), width: side, height: side }
    let pictures = 0
    /** A picture that was never used before, because its number is written into the first pixels. */
    const newPicture = () => {
      const data = known.data.slice()
      new DataView(data.buffer).setUint32(0, ++pictures)
      return { ...known, data }
    }
    const maskImage = {
      data: Uint8Array.from({ length: side * side }, (_, i) => (i % side < side / 2 ? 0 : 255)),
      width: side,
      height: side,
    }
    const request = (n: number) => ({ ...toRequest(n), outputType: 'rgb8' as const, numInferenceSteps: steps })
    try {
      await runSteadily(pipeline, inFlight, { measureMs: 2500 })
      const drawText = () => runInFlight(inFlight, requests, (n) => text.generate({ ...request(n), numInferenceSteps: stepsRun }))
      const rounds = await runRounds(pairs, {
        image: () => runInFlight(inFlight, requests, (n) => img2img.generate({ ...request(n), image: newPicture(), strength })),
        text: drawText,
      })
      const controls = await runRounds(Math.ceil(pairs / 4), {
        text: drawText,
        mask: () => runInFlight(inFlight, requests, (n) => inpaint.generate({ ...request(n), image: newPicture(), maskImage, strength })),
        again: () => runInFlight(inFlight, requests, (n) => img2img.generate({ ...request(n), image: known, strength })),
        encoding: async () => {
          const before = pipeline.engineStats().encodeMs
          await img2img.generate({ ...request(0), image: newPicture(), strength: 0.01 })
          return pipeline.engineStats().encodeMs - before
        },
        step: async () => {
          await img2img.generate({ ...request(0), image: known, strength: 0.01 })
          return pipeline.engineStats().lastStep?.runMs ?? 0
        },
      })
      const middle = (of: (round: (typeof controls)[number]) => number): string => median(controls.map(of)).toFixed(2)
      return {
        measured: [toMeasured(rounds.map((round) => round.image / round.text))],
        controls: {
          mask: middle((round) => round.mask / round.text),
          'one picture for all': middle((round) => round.again / round.text),
          'encoding, ms': middle((round) => round.encoding),
          'one step of two rows, ms': middle((round) => round.step),
        },
      }
    } finally {
      await pipeline.close()
    }
  },
}
