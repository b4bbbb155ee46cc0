/** The real engine process, except that the model's hash is only known after SIGUSR2, as the hash of a real model is only known after minutes. */
import { once } from 'node:events'
import { StableDiffusion3Pipeline } from '@easel/pipeline'

const { prototype } = StableDiffusion3Pipeline
const modelHash = Reflect.get(prototype, 'modelHash')
const told = once(process, 'SIGUSR2')
prototype.modelHash = async function () {
  await told
  return await modelHash.call(this)
}
await import('../src/engine/engine-main.ts')
