/**
 * Writes the contract's types as declarations without imports, for the client, which has no dependencies: the types that zod infers from schemas are
 * spelt out. Knows nothing about the client. Runs while packages are built.
 */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { API as Api, NodeBuilderFlags, SymbolFlags } from 'typescript/unstable/sync'

const root = resolve(import.meta.dirname, '../..')
const format = NodeBuilderFlags.InTypeAlias | NodeBuilderFlags.NoTruncation | NodeBuilderFlags.MultilineObjectLiterals

/** The file in which packages/client/tsconfig.build.json looks for the contract. */
const file = join(root, '.cache', 'contract-types.d.ts')

/** Writes every exported type of the contract. */
export function writeContractTypes(): void {
  const compiler = new Api({ cwd: root })
  try {
    const [project] = compiler.updateSnapshot({ openProjects: [join(root, 'tsconfig.packages.json')] }).getProjects()
    const index = project?.program.getSourceFile(join(root, 'packages/contract/src/index.ts'))
    const contract = index === undefined ? undefined : project?.checker.getSymbolAtLocation(index)
    if (project === undefined || contract === undefined) throw new Error('Expected tsconfig.packages.json to hold packages/contract')
    const { checker } = project
    const types = checker.getExportsOfModule(contract).filter(({ flags }) => (flags & SymbolFlags.TypeAlias) !== 0)
    const lines = types.map(
      (symbol) => `export type ${symbol.name} = ${checker.typeToString(checker.getDeclaredTypeOfSymbol(symbol), undefined, format)}\n`,
    )
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, lines.join(''))
  } finally {
    compiler.close()
  }
}
