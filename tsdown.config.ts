/**
 * How the published packages are built: to ES modules for Node 20 and newer, with their types. The workspace itself runs from the sources
 * and needs no build; `publishConfig.exports` of a package names what its tarball offers instead.
 */
import { defineConfig, type UserConfig } from 'tsdown/config'
import { writeContractTypes } from './scripts/packages/contract-types.ts'

const shared: UserConfig = {
  entry: 'src/index.ts',
  format: 'esm',
  target: 'node20',
  // `.js` and `.d.ts`, since the packages are of type module.
  fixedExtension: false,
  dts: true,
  tsconfig: '../../tsconfig.packages.json',
  // Dependencies stay imports; of node_modules nothing is taken in.
  deps: { onlyBundle: [] },
  failOnWarn: true,
  // TypeScript 7.1 is not out yet.
  suppressWarnings: /`tsgo` generator on TypeScript 7\.0 is deprecated/,
  report: false,
}

writeContractTypes()
const changelog = { from: '../../CHANGELOG.md', to: '.' }

export default defineConfig([
  {
    ...shared,
    cwd: 'packages/client',
    platform: 'neutral',
    // It depends on nothing: its declarations take in the contract's types, from where this configuration leads to.
    tsconfig: 'tsconfig.build.json',
    copy: [changelog],
  },
  { ...shared, cwd: 'packages/contract', platform: 'neutral', copy: [changelog] },
  {
    ...shared,
    cwd: 'packages/pipeline',
    platform: 'node',
    // File by file: a module starts itself as a thread, and another finds its graph, by the URL of their own files.
    unbundle: true,
    copy: [changelog, { from: 'src/models/probe.onnx', to: 'dist/models' }],
  },
])
