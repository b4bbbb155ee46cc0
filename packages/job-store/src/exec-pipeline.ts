/** Sends the commands of an ioredis pipeline in one round trip and returns their replies. Rejects when one of them has failed. */
import type { ChainableCommander } from 'ioredis'

export async function execPipeline<Reply>(pipeline: ChainableCommander): Promise<Reply[]> {
  const replies = await pipeline.exec()
  return (replies ?? []).map(([error, reply]) => {
    if (error !== null) throw error
    return reply as Reply
  })
}
