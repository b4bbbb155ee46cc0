/** tools/README.md says which tool made each file that was not written by hand. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const readme = readFileSync(join(root, 'tools/README.md'), 'utf8')

/** The folders with the project's files. models/ may contain other models besides the demo model. */
const folders = ['bench', 'deploy', 'docs', 'examples', 'models/tiny-scenes', 'packages', 'scripts', 'services', 'tools']
const skipped = new Set(['node_modules', 'dist', '__pycache__'])
const isMade = (path: string): boolean => /\.(png|jpe?g|webp|onnx|data|pb|safetensors|npy|bin)$|\/(golden|fixtures)\//.test(path)

function filesIn(folder: string): string[] {
  return readdirSync(join(root, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`
    if (!entry.isDirectory()) return [path]
    return skipped.has(entry.name) ? [] : filesIn(path)
  })
}

/** The first and second cells of the table's rows. */
const rows = [...readme.matchAll(/^\| `([^`]+)` \| (.+) \|$/gm)].map(([, files = '', maker = '']) => ({ files, maker }))

test('every golden, fixture, picture and weight of the project is in the table, with the tool that made it', () => {
  const made = folders.flatMap(filesIn).filter(isMade)
  expect(made.length).toBeGreaterThan(100)
  const isNamed = (path: string): boolean => rows.some(({ files }) => (files.endsWith('/') ? path.startsWith(files) : path === files))
  expect(made.filter((path) => !isNamed(path))).toEqual([])
})

test('everything that the table names exists, and no script is left out', () => {
  const scripts = rows.flatMap(({ maker }) => [...maker.matchAll(/`((?:demo_model\/)?\w+\.py)\b/g)].map(([, name]) => `tools/${name}`))
  const named = [...rows.map(({ files }) => files), ...scripts]
  expect(named.filter((path) => !existsSync(join(root, path)))).toEqual([])
  const all = filesIn('tools').filter((path) => path.endsWith('.py'))
  const isRun = (path: string): boolean => /\/(make|train|export)_\w+\.py$/.test(path)
  expect(all.filter((path) => isRun(path) && !readme.includes(path.split('/').at(-1) as string))).toEqual([])
})
