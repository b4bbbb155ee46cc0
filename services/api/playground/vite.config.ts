/**
 * Builds the pages people see: the playground, the api reference and the status page of operators, with every file they need, into dist/.
 *
 * Invariant: nothing is inlined and all paths are relative, so that the pages run under a strict Content-Security-Policy and behind a
 * proxy's path. The reference is Scalar's ready-made bundle, used unchanged.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { constants, brotliCompressSync } from 'node:zlib'
import { defineConfig, type Plugin } from 'vite'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

/** Puts Scalar's bundle beside the other files and lets docs.html load it. */
function scalarBundle(): Plugin {
  const source = readFileSync(here('node_modules/@scalar/api-reference/dist/browser/standalone.js'), 'utf8')
  // The file's map is not delivered.
  const code = source.replace(/\n\/\/# sourceMappingURL=.*\s*$/, '\n')
  const fileName = `playground/scalar-${createHash('sha256').update(code).digest('hex').slice(0, 8)}.js`
  return {
    name: 'scalar-bundle',
    generateBundle() {
      this.emitFile({ type: 'asset', fileName, source: code })
    },
    transformIndexHtml: {
      order: 'post',
      handler: (_html, { filename }) =>
        filename.endsWith('docs.html') ? [{ tag: 'script', attrs: { src: `./${fileName}` }, injectTo: 'head' }] : [],
    },
  }
}

/** Writes each text file a second time, compressed, for clients that take it. */
function compressed(): Plugin {
  const quality = { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }
  return {
    name: 'compressed',
    enforce: 'post',
    generateBundle(_options, bundle) {
      for (const file of Object.values(bundle)) {
        if (file.fileName.endsWith('.html')) continue
        const source = brotliCompressSync(file.type === 'chunk' ? file.code : file.source, quality)
        this.emitFile({ type: 'asset', fileName: `${file.fileName}.br`, source })
      }
    },
  }
}

export default defineConfig({
  root: here('.'),
  base: './',
  logLevel: 'warn',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  plugins: [scalarBundle(), compressed()],
  build: {
    target: 'es2022',
    assetsDir: 'playground',
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    rolldownOptions: { input: [here('index.html'), here('docs.html'), here('admin.html')] },
  },
})
