import { runScript } from './setup/run-script.js'

runScript('scripts/test-run.ts', ['vitest.packages.config.ts'])
