/** A small call of the embedded model, for tests of the engine. */
import type { EngineParams } from '../src/engine/protocol.ts'

export const engineParams: EngineParams = {
  prompt: 'a blue house',
  negativePrompt: '',
  width: 64,
  height: 64,
  numInferenceSteps: 6,
  guidanceScale: 4,
  numImagesPerPrompt: 1,
  seed: 1,
  maxSequenceLength: 20,
}
