/** Replaces the weights in the folder of a part, in a copy of a model, with others in one file. */
import { rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { findWeights } from '../src/graphs/checkpoint.ts'
import { writeSafetensors } from './write-safetensors.ts'
import { readTensors } from './write-single-file.ts'
import type { Tensors } from './write-single-file.ts'

/** Returns the path of the new file. */
export async function rewritePart(folder: string, change: (tensors: Tensors) => Tensors): Promise<string> {
  const tensors = change(await readTensors(folder))
  const found = findWeights(folder)!
  const file = join(folder, `${basename(found).split('.')[0]}.safetensors`)
  await rm(found)
  writeSafetensors(file, tensors)
  return file
}
