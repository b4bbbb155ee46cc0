/** Every place that names Easel's version names the one in the root's package.json. docs/release.md says how to change it. */
import { globSync, readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { expect, test } from 'vitest'

const root = resolve(import.meta.dirname, '..')
const text = (file: string): string => readFileSync(join(root, file), 'utf8')
const { version } = JSON.parse(text('package.json')) as { version: string }

const manifests = globSync(
  ['{packages,services}/*/package.json', 'services/api/playground/package.json', '{bench,examples}/package.json'],
  {
    cwd: root,
  },
)

test.each(manifests)('%s has the version of the root', (file) => {
  expect((JSON.parse(text(file)) as { version: string }).version).toBe(version)
})

test.each([
  ['services/api/src/app.ts', /^ +version: '([^']+)'/gm],
  ['services/api/Dockerfile', /^ARG VERSION=(.+)$/gm],
  ['services/gpu-worker/Dockerfile', /^ARG VERSION=(.+)$/gm],
  ['docker-compose.yml', /VERSION:-([^}]+)\}/g],
])('%s names the version of the root', (file, place) => {
  const found = [...text(file).matchAll(place)].map(([, each]) => each)
  expect(new Set(found)).toEqual(new Set([version]))
})
