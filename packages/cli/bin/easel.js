#!/usr/bin/env node
/**
 * The entry of the command `easel`, on any Node from 20: sets up what is missing, then hands over to the command line on Node 24.
 * `easel.js --node` only sets up and prints the path of that Node, for a shell that continues with `exec`, so that one process fewer stays.
 */
import { prepare, runScript } from '../../../scripts/setup/run-script.js'

if (process.argv[2] === '--node') console.log(prepare() ?? '')
else runScript('packages/cli/src/main.ts')
