/**
 * How the published packages are built: as ES modules for Node 20 and newer, with their types. The workspace itself runs from the sources
 * and needs no build; `publishConfig.exports` of a package names what its tarball offers instead.
 */
import { defineConfig, type UserConfig } from 'tsdown/config'
import { writeContractTypes } from './scripts/packages/contract-types.ts'

const shared: UserConfig = {
  entry: 'src/index.ts',
  format: 'esm',
  target: 'node20',
  // `.js` and `.d.ts`, because the packages have "type": "module".
  fixedExtension: false,
  dts: true,
  tsconfig: '../../tsconfig.packages.json',
  // Dependencies stay imports; nothing of node_modules is bundled.
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
    // The client has no dependencies, so its declarations contain the contract's types, to which this configuration points.
    tsconfig: 'tsconfig.build.json',
    copy: [changelog],
  },
  { ...shared, cwd: 'packages/contract', platform: 'neutral', copy: [changelog] },
  {
    ...shared,
    cwd: 'packages/pipeline',
    platform: 'node',
    // File by file, because one module starts itself as a thread and another finds its graph, both by the URL of their own file.
    unbundle: true,
    copy: [changelog, { from: 'src/models/probe.onnx', to: 'dist/models' }],
  },
])
