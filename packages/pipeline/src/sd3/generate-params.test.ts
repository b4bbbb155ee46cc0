import { describe, expect, it } from 'vitest'
import { Generator } from '../tensor/random-normal.ts'
import { Tensor } from '../tensor/tensor.ts'
import { resolveCall } from './generate-call.ts'
import { GenerateParamsError } from './generate-params.ts'

const limits = { sizeMultiple: 16, maxSide: 256, maxSequenceLength: 512, maxClipSkip: 1, layers: undefined, takesLoras: true }
const defaults = { width: 128, height: 128, numInferenceSteps: 20, guidanceScale: 4, maxSequenceLength: 20 }
const resolve = (params: object) => resolveCall({ prompt: 'a', ...params }, defaults, limits)
const tensor = (...dims: number[]) => new Tensor(new Float32Array(dims.reduce((a, b) => a * b)), dims)

const refused: [params: object, message: string][] = [
  [{ prompt: undefined }, 'Expected prompt to be given, or promptEmbeds, got neither'],
  [{ prompt: 7 }, 'Expected prompt to be a string or a list of strings, got 7'],
  [{ prompt: [] }, 'Expected prompt to be a string or a list of strings, got []'],
  [{ prompt: ['a', null] }, 'Expected prompt to be a string or a list of strings, got ["a",null]'],
  [{ prompt: null }, 'Expected prompt to be a string or a list of strings, got null'],
  [{ prompt2: 7 }, 'Expected prompt2 to be a string or a list of strings, got 7'],
  [{ prompt: ['a', 'b'], prompt3: ['c'] }, 'Expected prompt3 to be as many texts as there are prompts, 2, got 1'],
  [{ prompt: ['a', 'b'], negativePrompt: ['c'] }, 'Expected negativePrompt to be as many texts as there are prompts, 2, got 1'],
  [{ promptEmbeds: tensor(1, 2, 3), pooledPromptEmbeds: tensor(1, 2) }, 'Expected prompt to be absent when promptEmbeds is given, got "a"'],
  [{ prompt: undefined, promptEmbeds: tensor(1, 2, 3) }, 'Expected pooledPromptEmbeds to be given together with promptEmbeds, got nothing'],
  [{ negativePooledPromptEmbeds: tensor(1, 2) }, 'Expected negativePromptEmbeds to be given together with negativePooledPromptEmbeds'],
  [{ negativePrompt: 'b', negativePromptEmbeds: tensor(1), negativePooledPromptEmbeds: tensor(1) }, 'Expected negativePrompt to be absent'],
  [{ prompt: undefined, promptEmbeds: [1] }, 'Expected promptEmbeds to be a Tensor, got [1]'],
  [{ height: 100 }, 'Expected height to be divisible by 16, got 100'],
  [{ width: 272 }, 'Expected width to be an integer from 16 to 256, got 272'],
  [{ width: 0 }, 'Expected width to be an integer from 16 to 256, got 0'],
  [{ width: 64.5 }, 'got 64.5'],
  [{ loras: { id: 'a' } }, 'Expected loras to be a list of at most 4 of { id, scale }, scales from -4 to 4, each id once, got Object'],
  [{ loras: ['a'] }, 'got ["a"]'],
  [{ loras: [null] }, 'got [null]'],
  [{ loras: [{ scale: 1 }] }, 'got [{"scale":1}]'],
  [{ loras: [{ id: 'a', scale: 4.5 }] }, 'got [{"id":"a","scale":4.5}]'],
  [{ loras: [{ id: 'a', scale: Number.NaN }] }, 'scales from -4 to 4'],
  [{ loras: [{ id: 'a', scale: null }] }, 'scales from -4 to 4'],
  [{ loras: ['a', 'b', 'c', 'd', 'e'].map((id) => ({ id })) }, 'at most 4'],
  [{ numInferenceSteps: 0 }, 'Expected numInferenceSteps to be an integer from 1 to 2^53 - 1, got 0'],
  [{ numInferenceSteps: Number.NaN }, 'got NaN'],
  [{ numInferenceSteps: '4' }, 'got "4"'],
  [{ numInferenceSteps: null }, 'got null'],
  [{ guidanceScale: Infinity }, 'Expected guidanceScale to be a finite number, got Infinity'],
  [{ guidanceScale: '4' }, 'Expected guidanceScale to be a finite number, got "4"'],
  [{ numImagesPerPrompt: 0 }, 'Expected numImagesPerPrompt to be an integer from 1'],
  [{ seed: 1.5 }, 'Expected seed to be an integer'],
  [{ seed: 2 ** 53 }, 'Expected seed to be an integer'],
  [{ seed: 1, generator: new Generator(1) }, 'Expected seed to be absent when generator is given, got 1'],
  [{ generator: 42 }, 'Expected generator to be a Generator or a list of them, got 42'],
  [{ generator: [] }, 'Expected generator to be a Generator or a list of them, got []'],
  [{ generator: [new Generator(1), new Generator(2)] }, 'Expected generator to be one, or a list of 1, got a list of 2'],
  [{ seed: 5n }, 'Expected seed to be an integer from -9007199254740991 to 2^53 - 1, got 5'],
  [{ sigmas: [1n] }, 'got ["1"]'],
  [{ latents: [0, 1] }, 'Expected latents to be a Tensor, got [0,1]'],
  [{ clipSkip: 2 }, 'Expected clipSkip to be an integer from 0 to 1, got 2'],
  [{ clipSkip: -1 }, 'got -1'],
  [{ maxSequenceLength: 513 }, 'Expected maxSequenceLength to be an integer from 1 to 512, got 513'],
  [{ sigmas: [] }, 'Expected sigmas to be a list of at least one finite number, got []'],
  [{ sigmas: [1, 'x'] }, 'Expected sigmas to be a list'],
  [{ mu: Number.NaN }, 'Expected mu to be a finite number, got NaN'],
  [{ outputType: 'pil' }, `Expected outputType to be 'rgb8' or 'latent', got "pil"`],
  [{ signal: {} }, 'Expected signal to be an AbortSignal, got Object'],
  [{ callbackOnStepEnd: 'x' }, 'Expected callbackOnStepEnd to be a function, got "x"'],
  [
    { callbackOnStepEndTensorInputs: ['noise'] },
    'Expected callbackOnStepEndTensorInputs to be a list of names among latents, promptEmbeds, pooledPromptEmbeds, got ["noise"]',
  ],
  [
    { callbackOnStepEndTensorInputs: 'latents' },
    'Expected callbackOnStepEndTensorInputs to be a list of names among latents, promptEmbeds, pooledPromptEmbeds, got "latents"',
  ],
  [{ skipGuidanceLayers: [7, 8, 9] }, 'Expected skipGuidanceLayers to be absent, as the transformer takes no layer mask, got [7,8,9]'],
  [{ ipAdapterImage: 'x.png' }, 'Expected ipAdapterImage to be absent, as image prompts are not supported'],
  [{ ipAdapterImageEmbeds: [] }, 'Expected ipAdapterImageEmbeds to be absent'],
  [{ jointAttentionKwargs: { scale: 1 } }, 'Expected jointAttentionKwargs to be absent'],
  [{ num_inference_steps: 4 }, 'Expected num_inference_steps to be a known parameter'],
]

describe('a parameter that cannot be used', () => {
  it.each(refused.map(([params, message]) => ({ params, message })))('is refused by name: $message', ({ params, message }) => {
    expect(() => resolve(params)).toThrow(GenerateParamsError)
    expect(() => resolve(params)).toThrow(message)
  })
})

it.each([undefined, null, 'a red boat'])('parameters that are not an object are refused: %s', (params) => {
  expect(() => resolveCall(params as never, defaults, limits)).toThrow('Expected params to be an object with a prompt, got ')
})

describe('a resolved call', () => {
  it('has the defaults where nothing is given, and 0 where 0 is given', () => {
    expect(resolve({})).toMatchObject({ ...defaults, numImagesPerPrompt: 1, clipSkip: 0, outputType: 'rgb8', batch: 1 })
    expect(resolve({ guidanceScale: 0, seed: 0, mu: 0 })).toMatchObject({ guidanceScale: 0, seed: 0, mu: 0 })
  })

  it('uses one negative prompt for all prompts, and the first text in place of empty ones', () => {
    const call = resolve({ prompt: ['a', 'b'], prompt2: '', prompt3: ['c', ''], negativePrompt: 'n', negativePrompt3: '' })
    expect(call.texts).toEqual({ prompt: ['a', 'b'], prompt2: ['a', 'b'], prompt3: ['c', ''] })
    expect(call.negativeTexts).toEqual({ prompt: ['n', 'n'], prompt2: ['n', 'n'], prompt3: ['n', 'n'] })
  })

  it('has as many prompts as its embeddings have rows', () => {
    expect(resolve({ prompt: undefined, promptEmbeds: tensor(3, 2, 4), pooledPromptEmbeds: tensor(3, 4) })).toMatchObject({ batch: 3 })
  })
})
