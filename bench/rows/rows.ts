/** All rows of the table, in order. */
import type { Row } from '../harness/row.ts'
import { row as batchingGain } from './01-batching-gain.ts'
import { row as engineOverhead } from './02-engine-overhead.ts'
import { row as computeBound } from './03-compute-bound.ts'
import { row as latencyFirstCome } from './04-latency-first-come.ts'
import { row as latencyStaticBatching } from './05-latency-static-batching.ts'
import { row as shortBehindLong } from './06-short-behind-long.ts'
import { row as manyInFlight } from './07-many-in-flight.ts'
import { row as guidanceInterval } from './08-guidance-interval.ts'
import { row as promptCache } from './09-prompt-cache.ts'
import { row as memory } from './10-memory.ts'
import { row as nullStack } from './11-null-stack.ts'
import { row as latencyOverhead } from './12-latency-overhead.ts'
import { row as eventLoop } from './13-event-loop.ts'
import { row as httpThroughput } from './14-http-throughput.ts'
import { row as progressAndUpload } from './15-progress-and-upload.ts'
import { row as float16Overhead } from './16-float16-overhead.ts'
import { row as inputPicture } from './17-input-picture.ts'
import { row as fairShare } from './18-fair-share.ts'
import { row as ownGraph } from './19-own-graph.ts'
import { row as packageSize } from './20-package-size.ts'

export const rows: readonly Row[] = [
  batchingGain,
  engineOverhead,
  computeBound,
  latencyFirstCome,
  latencyStaticBatching,
  shortBehindLong,
  manyInFlight,
  guidanceInterval,
  promptCache,
  memory,
  nullStack,
  latencyOverhead,
  eventLoop,
  httpThroughput,
  progressAndUpload,
  float16Overhead,
  inputPicture,
  fairShare,
  ownGraph,
  packageSize,
]
