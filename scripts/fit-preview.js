import { runScript } from './setup/run-script.js'

runScript('scripts/fit-preview-run.ts')
