#!/usr/bin/env node
/**
 * Entry of the command `easel`, on any Node from 20 up: sets up what is missing, then hands over to the command line on Node 24.
 * `easel.js --node` only sets up and writes the path of that Node, for a shell that goes on with `exec`: one process less stays alive.
 */
import { prepare, runScript } from '../../../scripts/setup/run-script.js'

if (process.argv[2] === '--node') console.log(prepare() ?? '')
else runScript('packages/cli/src/main.ts')
