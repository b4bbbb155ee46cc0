/** The models that are here, and the one that a worker started here would serve. */
import { listModels } from '@easel/model-store'
import { resolveModel } from '@easel/pipeline'
import { toSize } from '../terminal/say.ts'
import { type Finding, toFailure } from './finding.ts'

const subject = 'models'

/** `model`: the value of MODEL. Tells the size of that one, where it is there. */
export async function examineModels(modelsDir: string, model: string): Promise<{ findings: Finding[]; modelBytes: number | undefined }> {
  const stored = await listModels(modelsDir)
  const findings = stored.map(({ name, bytes, dtype, state, problem }): Finding => {
    if (problem === undefined) return { subject, state: 'ok', says: `${name}: ${dtype}, ${toSize(bytes)}` }
    const mend = state === 'partial' ? `easel pull ${name}` : `pull it again, or remove it: easel rm ${name}`
    return { subject, state: 'warn', says: `${name} is not whole: ${problem}`, mend }
  })
  try {
    const { folder } = resolveModel(model, { modelsDir })
    return { findings, modelBytes: stored.find(({ path }) => path === folder)?.bytes }
  } catch (error) {
    return { findings: [...findings, toFailure('MODEL', error)], modelBytes: undefined }
  }
}
