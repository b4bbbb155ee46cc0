import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { parseGpuMemory, readGpuMemory } from './read-gpu-memory.ts'

describe('readGpuMemory', () => {
  let dir: string
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'easel-smi-'))
  })
  afterEach(async () => {
    vi.unstubAllEnvs()
    await rm(dir, { recursive: true })
  })

  async function install(script: string): Promise<void> {
    await writeFile(join(dir, 'nvidia-smi'), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    vi.stubEnv('PATH', `${dir}${delimiter}${process.env['PATH'] ?? ''}`)
  }

  test('returns what is used on the requested GPU, and that together with what the driver reserves', async () => {
    await install('case "$*" in *--id=1*) echo "2048, 512";; *) echo "1024, 256"; echo "2048, 512";; esac')
    expect(await readGpuMemory()).toEqual({ memory_allocated_gb: 1, memory_reserved_gb: 1.25 })
    expect(await readGpuMemory('1')).toEqual({ memory_allocated_gb: 2, memory_reserved_gb: 2.5 })
  })

  test('returns nothing when the driver does not answer or does not exist', async () => {
    await install('echo "NVIDIA-SMI has failed"; exit 9')
    expect(await readGpuMemory()).toBeUndefined()
    vi.stubEnv('PATH', join(dir, 'nowhere'))
    expect(await readGpuMemory()).toBeUndefined()
  })
})

test('reserved memory that an old driver does not report counts as none', () => {
  expect(parseGpuMemory('512, [N/A]\n')).toEqual({ memory_allocated_gb: 0.5, memory_reserved_gb: 0.5 })
  expect(parseGpuMemory('[N/A], [N/A]\n')).toBeUndefined()
})
