/** The entry of the worker's main process. */
import { runService } from '@easel/process'
import { readConfig } from './config.ts'
import { startWorkerService } from './worker-service.ts'

await runService({ name: 'gpu-worker', readConfig, start: startWorkerService })
