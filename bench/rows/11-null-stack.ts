/**
 * Row 11: what everything around the engine costs.
 *
 * Left: jobs a second through all of Easel, with an engine process that answers with ready bytes (a picture of 16 px): HTTP, validation, record,
 * queue, worker, the channel to the child, PNG, file, end of the record, and the answer to the waiting client. Right: BullMQ alone, a queue and a
 * worker that does nothing, with the same Redis server. Both sides have concurrency 8 and sixteen producers that each wait for their job before
 * they make the next. Neither side waits for a disk: Redis keeps no file, and pictures go to memory where the system has a folder for that.
 * Controls: both rates; the left side with pictures flushed to the disk.
 */
import { Queue, QueueEvents, Worker } from 'bullmq'
import { median, runRounds, toMeasured } from '../harness/rounds.ts'
import type { Row } from '../harness/row.ts'
import { runInFlight } from '../load/closed-loop.ts'
import { memoryFolder, openStack } from '../stack/open-stack.ts'
import type { Stack } from '../stack/open-stack.ts'

const producers = 16
const concurrency = 8
const jobs = { stack: 300, bullmq: 1000 }

export const row: Row = {
  id: 11,
  claims: [{ name: 'jobs a second, whole stack with a null engine / bare BullMQ', target: '>= 0.15' }],
  controls: 'Controls: jobs a second on both sides, and with the disk.',
  async run({ pairs }) {
    const workers = [{ model: 'null', nullStepMs: 0, concurrency }]
    const stack = await openStack(workers, memoryFolder)
    const onDisk = await openStack(workers)
    const port = Number(new URL(stack.redisUrl).port)
    const connection = { host: '127.0.0.1', port }
    const queue = new Queue('bare', { connection, defaultJobOptions: { removeOnComplete: { count: jobs.bullmq } } })
    // Every producer adds a listener while it waits for its job.
    queue.setMaxListeners(0)
    const events = new QueueEvents('bare', { connection })
    const worker = new Worker('bare', async () => 'done', { connection, concurrency })
    try {
      await Promise.all([queue.waitUntilReady(), events.waitUntilReady(), worker.waitUntilReady()])
      const through = (easel: Stack) => async (): Promise<number> => {
        const ms = await runInFlight(producers, jobs.stack, (n) =>
          easel.makePicture({ prompt: `picture ${n}`, model: 'null', width: 16, height: 16 }),
        )
        return (jobs.stack / ms) * 1000
      }
      const rounds = await runRounds(pairs, {
        stack: through(stack),
        bullmq: async () => {
          const ms = await runInFlight(producers, jobs.bullmq, async (n) => (await queue.add('job', { n })).waitUntilFinished(events))
          return (jobs.bullmq / ms) * 1000
        },
        onDisk: through(onDisk),
      })
      return {
        measured: [toMeasured(rounds.map(({ stack, bullmq }) => stack / bullmq))],
        controls: {
          'whole stack': `${median(rounds.map(({ stack }) => stack)).toFixed(0)} jobs a second`,
          'bare BullMQ': `${median(rounds.map(({ bullmq }) => bullmq)).toFixed(0)} jobs a second`,
          'pictures on the disk': `${median(rounds.map(({ onDisk }) => onDisk)).toFixed(0)} jobs a second`,
        },
      }
    } finally {
      await worker.close()
      await events.close()
      await queue.close()
      await stack.close()
      await onDisk.close()
    }
  },
}
