/** A thread that reads its process's memory every `workerData` milliseconds and answers the first message with the maximum. */
import { parentPort, workerData } from 'node:worker_threads'
import { readMemory } from './process-memory.ts'

const most = { ownMib: 0, mappedMib: 0 }
const timer = setInterval(() => {
  const { ownMib, mappedMib } = readMemory('self')
  most.ownMib = Math.max(most.ownMib, ownMib)
  most.mappedMib = Math.max(most.mappedMib, mappedMib)
}, Number(workerData))
parentPort?.once('message', () => {
  clearInterval(timer)
  parentPort?.postMessage(most)
})
