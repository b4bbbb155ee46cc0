import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { generatedDocs } from './generated-docs.ts'

describe('generated documents', () => {
  test.each(Object.entries(generatedDocs()))('%s says what the code says (else run `npm run docs`)', (path, text) => {
    expect(readFileSync(fileURLToPath(new URL(`../${path}`, import.meta.url)), 'utf8')).toBe(text)
  })
})
