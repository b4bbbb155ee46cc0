import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { expect, it } from 'vitest'
import { readGpuNames } from './gpu-names.ts'

it('GPUs have the names that their driver gives, if there is one and the provider uses it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'easel-smi-'))
  const path = process.env['PATH']
  try {
    process.env['PATH'] = folder
    expect(await readGpuNames('cuda')).toEqual([])
    await writeFile(join(folder, 'nvidia-smi'), '#!/bin/sh\necho "NVIDIA A10"\necho "NVIDIA H100 PCIe"\n')
    await chmod(join(folder, 'nvidia-smi'), 0o755)
    process.env['PATH'] = `${folder}${delimiter}${path}`
    // A driver that takes too long gives no names, and on a busy machine so may this one at first.
    await expect.poll(() => readGpuNames('cuda')).toEqual(['NVIDIA A10', 'NVIDIA H100 PCIe'])
    expect(await readGpuNames('cpu')).toEqual([])
  } finally {
    process.env['PATH'] = path
    await rm(folder, { recursive: true })
  }
})
