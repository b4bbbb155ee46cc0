import { runScript } from './setup/run-script.js'

runScript('bench/main.ts')
