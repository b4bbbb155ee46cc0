/** Examines the device on which a worker would run here, CUDA where there is an NVIDIA GPU, and whether the model fits into memory. */
import { spawnSync } from 'node:child_process'
import { freemem, totalmem } from 'node:os'
import { type Device, reportCuda, resolveDevice } from '@easel/pipeline'
import { toSize } from '../terminal/say.ts'
import { type Finding, toFailure } from './finding.ts'

/** `requested`: the value of DEVICE. */
export async function examineDevice(requested: string): Promise<Finding[]> {
  const findings: Finding[] = []
  const gpus = readGpus()
  for (const gpu of gpus) findings.push({ subject: 'gpu', state: 'ok', says: gpu })
  try {
    const { provider, reason } = await resolveDevice(requested as Device)
    const isSlow = provider === 'cpu' && gpus.length > 0 && requested !== 'cpu'
    findings.push({ subject: 'device', state: isSlow ? 'bad' : 'ok', says: `the model runs on ${provider}: ${reason}` })
  } catch (error) {
    findings.push(toFailure('device', error))
  }
  if (gpus.length > 0 || requested === 'cuda') {
    const { problems, driverVersion } = reportCuda()
    if (problems.length === 0) findings.push({ subject: 'cuda', state: 'ok', says: `complete, driver ${driverVersion}` })
    for (const problem of problems) findings.push({ subject: 'cuda', state: 'bad', says: 'something is missing', mend: problem })
  }
  return findings
}

/** The name, memory and driver of each GPU, as nvidia-smi reports them. */
function readGpus(): string[] {
  const query = ['--query-gpu=name,memory.total,driver_version', '--format=csv,noheader']
  const { status, stdout } = spawnSync('nvidia-smi', query, { encoding: 'utf8', timeout: 10_000 })
  return status === 0 ? stdout.trim().split('\n') : []
}

/** `modelBytes`: the size of the model's files; undefined where there is no model. */
export function examineMemory(modelBytes: number | undefined): Finding {
  // In a container the container's limit applies, which the system's figure does not reflect.
  const constrained = process.constrainedMemory()
  const total = constrained > 0 && constrained < totalmem() ? constrained : totalmem()
  const says = `${toSize(total)}, of which ${toSize(Math.min(freemem(), total))} are free`
  if (modelBytes === undefined || modelBytes < total * 0.8) return { subject: 'memory', state: 'ok', says }
  const mend = 'a model on the CPU is mapped from its files (WEIGHTS=mapped), which is slower; more memory, or TEXT_ENCODER_3=off, helps'
  return { subject: 'memory', state: 'warn', says: `${says}; the model's files take ${toSize(modelBytes)}`, mend }
}
