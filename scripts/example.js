/** `npm run example NAME`: runs one of the files in examples/. */
import { existsSync, readdirSync } from 'node:fs'
import { runScript } from './setup/run-script.js'

const examples = new URL('../examples/', import.meta.url)
const [name] = process.argv.splice(2, 1)
const script = `${name}`.replace(/^examples\/|\.ts$/g, '') + '.ts'
if (name !== undefined && existsSync(new URL(script, examples))) {
  runScript(`examples/${script}`)
} else {
  const names = readdirSync(examples).flatMap((file) => (/^[^.]+\.ts$/.test(file) ? [file.slice(0, -3)] : []))
  console.error(`Expected the name of an example (${names.join(', ')}), got ${name ?? 'nothing'}`)
  process.exitCode = 1
}
