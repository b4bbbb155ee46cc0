import { runScript } from './setup/run-script.js'

runScript('scripts/pack-run.ts')
