import { runScript } from './setup/run-script.js'

runScript('scripts/demo-run.ts')
