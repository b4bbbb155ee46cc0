import { runScript } from './setup/run-script.js'

runScript('scripts/start-run.ts', ['gpu-worker'])
