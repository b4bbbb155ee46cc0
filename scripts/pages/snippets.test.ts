/**
 * Every fenced block of every page is run as it is written, or says in its first line what it needs and is only parsed. These tests check that
 * none is left out, and follow the pages that call a running service; pages whose commands begin with `npm` or `npx` are followed in
 * commands.test.ts.
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { stripTypeScriptTypes } from 'node:module'
import { parse as parseYaml } from 'yaml'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type Easel, startEasel } from '../start-easel.ts'
import { commandPages, packagePages, servicePages } from './pages.ts'
import { openReader, type Reader } from './reader.ts'
import { pagesWithSnippets, readSnippets } from './snippets.ts'

/** The reasons for which a block may not be run here. Think twice before adding another. */
const needs = ['Docker', 'a GPU', 'a login at Hugging Face', 'a registry', 'pip install', 'a quiet machine', 'a version to be made']

const parsers: Record<string, (code: string) => unknown> = {
  sh: (code) => execFileSync('bash', ['-n'], { input: code }),
  python: (code) => execFileSync('python3', ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'], { input: code }),
  ts: (code) => stripTypeScriptTypes(code),
  js: (code) => stripTypeScriptTypes(code),
  yaml: (code) => parseYaml(code),
  json: (code) => JSON.parse(code),
  // Not code: a drawing, the content of a file, rules of another program.
  text: () => undefined,
}
const hasPython = spawnSync('python3', ['--version']).status === 0

const pages = pagesWithSnippets()
const snippets = pages.flatMap((page) => readSnippets(page).map((snippet) => ({ page, ...snippet })))

test('pages with blocks are found, and the list of followed pages names no others', () => {
  expect(snippets.length).toBeGreaterThan(70)
  const followed = [...Object.keys(servicePages), ...Object.keys(commandPages), ...packagePages]
  expect(followed.filter((page) => !pages.includes(page))).toEqual([])
})

test.each(snippets.filter(({ language }) => hasPython || language !== 'python'))('$place parses as $language', ({ language, code }) => {
  expect(Object.keys(parsers)).toContain(language)
  expect(() => parsers[language]?.(code)).not.toThrow()
})

test.each(snippets.filter(({ needs: need }) => need !== undefined))('$place is only parsed for a known reason: $needs', (snippet) => {
  expect(needs.filter((each) => snippet.needs?.startsWith(each))).toHaveLength(1)
})

test.each(snippets.filter(({ language, needs: need }) => language !== 'text' && need === undefined))(
  '$place is run',
  ({ page, language }) => {
    expect(languagesRun(page, language)).toContain(language)
  },
)

/** Languages whose blocks of that page are run; `all` stands for any of a page that is followed whole. */
function languagesRun(page: string, all: string): readonly string[] {
  if (packagePages.some((each) => each === page)) return ['sh', 'ts']
  return [servicePages[page], commandPages[page]].flatMap((followed) => (followed === undefined ? [] : (followed.languages ?? [all])))
}

describe('on a running service', () => {
  let easel: Easel
  let reader: Reader
  beforeAll(async () => {
    easel = await startEasel({ env: { ADMIN_KEY: 'an-operators-key' } })
    reader = await openReader({ url: easel.url, limitMs: 240_000 })
  })
  afterAll(async () => {
    await reader?.close()
    await easel?.stop()
  })

  test.each(Object.entries(servicePages))('%s works from its first line to its last', async (page, followed) => {
    const out = await reader.follow(page, followed)
    for (const line of followed.says) expect(out).toMatch(line)
    expect(followed.leaves?.filter((file) => !reader.has(file)) ?? []).toEqual([])
  })
})
