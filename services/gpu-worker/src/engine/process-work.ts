/**
 * What the system sees of another process's work: processor time, bytes read, page faults. Runs in the worker's main process. Knows nothing
 * about what the process does. Without /proc no work is seen.
 */
import { readFileSync } from 'node:fs'

/** The fraction of a period that must be processor time to count as work; a waiting process spends less, on timers. */
const workingPart = 0.02
/** Milliseconds of processor time in one count of /proc/PID/stat: USER_HZ is 100 on every Linux that Node runs on. */
const clockTickMs = 10
/** Reading this many bytes counts as work; messages and timers read fewer. */
const readBytesOfWork = 4096

/** The signs of work since the last look. */
export interface WorkSeen {
  /** Whether it used processor time, in any thread. */
  computed: boolean
  /** Whether it had major page faults: mapped files were read from disk. A process that hangs or is stopped has none. */
  paged: boolean
  /** Whether it read from files or sockets. */
  read: boolean
}

export class ProcessWork {
  readonly #pid: number | undefined
  #usage: Usage

  constructor(pid: number | undefined) {
    this.#pid = pid
    this.#usage = readUsage(pid)
  }

  /** `periodMs`: the time since the last look. */
  look(periodMs: number): WorkSeen {
    const before = this.#usage
    this.#usage = readUsage(this.#pid)
    return {
      computed: this.#usage.cpuMs - before.cpuMs >= Math.max(clockTickMs, workingPart * periodMs),
      paged: this.#usage.majorFaults > before.majorFaults,
      read: this.#usage.readBytes - before.readBytes >= readBytesOfWork,
    }
  }
}

interface Usage {
  /** Processor time of all threads since the process began. */
  readonly cpuMs: number
  readonly majorFaults: number
  readonly readBytes: number
}

function readUsage(pid: number | undefined): Usage {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // The fields from the third on; the second is the name of the program, which may contain spaces and parentheses.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    const [majorFaults, userTicks, systemTicks] = [fields[9], fields[11], fields[12]].map(Number) as [number, number, number]
    const readBytes = Number(/^rchar: ([0-9]+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'latin1'))?.[1] ?? 0)
    return { cpuMs: (userTicks + systemTicks) * clockTickMs, majorFaults, readBytes }
  } catch {
    return { cpuMs: 0, majorFaults: 0, readBytes: 0 }
  }
}
