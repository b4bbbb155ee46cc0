/** `easel models` lists the models directory; `easel rm MODEL` removes a model from it. */
import { listModels, removeModel } from '@easel/model-store'
import { paint, toSize, toTable } from '../terminal/say.ts'

export async function models(modelsDir: string, { json = false }: { json?: boolean }): Promise<number> {
  const found = await listModels(modelsDir)
  if (json) {
    console.log(JSON.stringify(found, undefined, 2))
    return 0
  }
  if (found.length === 0) console.log(`There are no models in ${modelsDir}. "easel pull MODEL" fetches one.`)
  const rows = found.map(({ name, bytes, dtype, origin, state, problem }) => [
    name,
    toSize(bytes),
    dtype,
    problem !== undefined ? `${state}: ${problem}` : state === 'parts' ? 'parts without weights, for MODEL_PARTS' : state,
    origin ?? '',
  ])
  if (rows.length > 0) {
    const [header, ...lines] = toTable([['MODEL', 'SIZE', 'TYPE', 'STATE', 'FROM'], ...rows]).split('\n')
    console.log([paint('bold', header ?? '', process.stdout), ...lines].join('\n'))
  }
  return 0
}

export async function remove(modelsDir: string, name: string): Promise<number> {
  console.log(`Removed ${name}; ${toSize(await removeModel(modelsDir, name))} were freed.`)
  return 0
}
