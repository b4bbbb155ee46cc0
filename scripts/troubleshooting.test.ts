/** docs/troubleshooting.md quotes what the services print: each sentence in its first columns is in the code, word for word. */
import { globSync, readFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const page = readFileSync(resolve(root, 'docs/troubleshooting.md'), 'utf8')
const sources = globSync(['services/*/src/**/*.ts', 'packages/*/src/**/*.ts'], { cwd: root }).filter((path) => !path.endsWith('.test.ts'))
const code = sources
  .map((path) => readFileSync(resolve(root, path), 'utf8'))
  .join('\n')
  // A sentence that is split over several lines of code becomes one.
  .replaceAll(/['`"] \+\s*['`"]/g, '')

const symptoms = [...page.matchAll(/^\| (.+?) \| /gm)].map((match) => match[1] ?? '')
/** Texts in backquotes of more than one word. */
const sentences = symptoms
  .flatMap((symptom) => [...symptom.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? ''))
  .filter((quoted) => quoted.includes(' '))

test('sentences are found on the page', () => expect(sentences.length).toBeGreaterThan(30))

test.each(sentences)('the code contains: %s', (sentence) => {
  const parts = sentence.split('…').filter((part) => part.trim().length > 2)
  expect(parts.filter((part) => !code.includes(part))).toEqual([])
})
