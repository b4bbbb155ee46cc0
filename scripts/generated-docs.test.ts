import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { generatedDocs } from './generated-docs.ts'

describe('generated documents', () => {
  test.each(Object.entries(generatedDocs()))('%s says what the code says (else run `npm run docs`)', (path, text) => {
    expect(readFileSync(fileURLToPath(new URL(`../${path}`, import.meta.url)), 'utf8')).toBe(text)
  })

  test('say what a variable means to each service, and which values it may have', () => {
    const text = generatedDocs()['docs/variables.md'] ?? ''
    const rowOf = (name: string): string | undefined => text.split('\n').find((row) => row.startsWith(`| \`${name}\` |`))
    expect(rowOf('MODEL')).toMatch(/api: Model of requests.+ gpu-worker: Model that this worker serves/)
    expect(rowOf('RESULT_TTL')).not.toContain('api:')
    expect(rowOf('DEVICE')).toContain('One of `auto`, `cpu`, `cuda`, `tensorrt`, `webgpu`, `coreml`, `dml`.')
    expect(rowOf('LOG_LEVEL')).toContain('`silent`')
    // The descriptions of these two explain every value.
    for (const name of ['IMAGE_METADATA', 'STORAGE']) expect(rowOf(name)).not.toContain('One of')
  })
})
