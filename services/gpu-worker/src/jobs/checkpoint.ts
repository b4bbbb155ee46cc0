/** Encodes checkpoints as bytes. One in another version of the format is ignored: the job then starts again and gives the same bytes. */
import { deserialize, serialize } from 'node:v8'
import type { Checkpoint } from '../engine/protocol.ts'

const version = 1

export function encodeCheckpoint(checkpoint: Checkpoint): Buffer {
  return serialize({ version, ...checkpoint })
}

export function decodeCheckpoint(bytes: Buffer): Checkpoint | undefined {
  try {
    const { version: found, ...checkpoint } = deserialize(bytes) as Checkpoint & { version: number }
    return found === version ? checkpoint : undefined
  } catch {
    return undefined
  }
}
