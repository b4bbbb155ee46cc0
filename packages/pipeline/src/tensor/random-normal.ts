import type { Tensor } from './tensor.ts'

/** Everything that decides the following draws; plain data, safe to structured-clone. */
export interface GeneratorState {
  readonly seed: bigint
  readonly words: Uint32Array
  readonly position: number
  readonly cachedNormal: number | undefined
}

export class Generator {
  constructor(seed?: number | bigint) {
    throw new Error(`Not written yet (seed ${seed})`)
  }

  get initialSeed(): bigint {
    throw new Error('Not written yet')
  }

  manualSeed(_seed: number | bigint): this {
    throw new Error('Not written yet')
  }

  getState(): GeneratorState {
    throw new Error('Not written yet')
  }

  setState(_state: GeneratorState): this {
    throw new Error('Not written yet')
  }

  clone(): Generator {
    throw new Error('Not written yet')
  }
}

export function randn(_dims: readonly number[], _generator: Generator): Tensor {
  throw new Error('Not written yet')
}
