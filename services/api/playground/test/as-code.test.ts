import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'
import type { CreateJobRequest } from '@easel/contract'
import { toTypeScript } from '../src/as-code.ts'

const root = resolve(import.meta.dirname, '../../../..')
const everything: CreateJobRequest = {
  prompt: 'a `boat`, "red"\n  "width": 16, ${on} the sea',
  negative_prompt: "a child's drawing",
  width: 128,
  height: 192,
  num_images_per_prompt: 4,
  sigmas: [1, 0.5],
  guidance_interval: [0.1, 0.9],
  skip_guidance_layers: [7, 8],
  loras: [{ id: 'watercolour', scale: 0.8 }],
  image: 'job:0199c0de-0000-7000-8000-000000000000',
  fit: 'contain',
  strength: 0.5,
  output_format: 'webp',
}

test('the TypeScript of a job passes a type check against the client, whatever is in the prompt', () => {
  const folder = mkdtempSync(join(tmpdir(), 'easel-as-code-'))
  try {
    const options = { base: 'https://easel.example.com/path', seed: 7 }
    writeFileSync(join(folder, 'all.ts'), toTypeScript(everything, { ...options, keyed: true }))
    writeFileSync(join(folder, 'plain.ts'), toTypeScript({ prompt: 'a cat' }, { ...options, keyed: false }))
    writeFileSync(join(folder, 'wrong.ts'), toTypeScript({ prompt: 'a cat' }, { ...options, keyed: false }).replace('prompt:', 'promt:'))
    symlinkSync(join(root, 'services/api/playground/node_modules'), join(folder, 'node_modules'))
    writeFileSync(join(folder, 'package.json'), '{"type": "module"}')
    const compilerOptions = { noEmit: true, types: ['node'], typeRoots: [join(root, 'node_modules/@types')] }
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ extends: join(root, 'tsconfig.base.json'), compilerOptions }))
    expect(findTypeErrors(folder)).toMatch(/^wrong\.ts.*promt.*$/)
  } finally {
    rmSync(folder, { recursive: true })
  }
})

/** What tsc says about a project. */
function findTypeErrors(folder: string): string {
  try {
    return execFileSync(join(root, 'node_modules/.bin/tsc'), ['--pretty', 'false', '-p', folder], { cwd: folder, encoding: 'utf8' }).trim()
  } catch (error) {
    return (error as { stdout: string }).stdout.trim()
  }
}
