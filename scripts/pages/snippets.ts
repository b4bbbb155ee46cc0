/**
 * Finds the fenced blocks of the pages: which pages have some, in which language, and which of them are only parsed.
 *
 * Invariant: a block is run as it is written, unless its first line is a comment that says what it needs (`# needs Docker`), where every reader
 * sees it. `text` is for blocks that are not code. Knows nothing about how a block is run. Runs in tests.
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { resolve } from 'node:path'

export interface Snippet {
  /** `docs/scale.md:21` */
  place: string
  /** The first word after the fence. */
  language: string
  code: string
  /** What a machine must have to run it; undefined when the tests run it. */
  needs: string | undefined
}

export const root = resolve(import.meta.dirname, '../..')

/** Paths of the pages that have fenced blocks, from the project's folder. */
export function pagesWithSnippets(): string[] {
  const args = ['ls-files', '--cached', '--others', '--exclude-standard', '*.md']
  const pages = execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim().split('\n')
  return [...new Set(pages)].filter((page) => readSnippets(page).length > 0)
}

export function readSnippets(page: string): Snippet[] {
  const text = readFileSync(resolve(root, page), 'utf8')
  return [...text.matchAll(/^( *)```(\S*).*\n([^]*?)^\1```$/gm)].map((match) => {
    const [, indent = '', language = '', indented = ''] = match
    const code = indented.replaceAll(new RegExp(`^${indent}`, 'gm'), '')
    const line = text.slice(0, match.index).split('\n').length
    return { place: `${page}:${line}`, language, code, needs: /^(?:#|\/\/) needs (.+)$/m.exec(code.split('\n')[0] ?? '')?.[1] }
  })
}
