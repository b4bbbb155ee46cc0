/** Examines the models on this machine and the one that a worker would serve here. */
import { listModels } from '@easel/model-store'
import { resolveModel } from '@easel/pipeline'
import { toSize } from '../terminal/say.ts'
import { type Finding, toFailure } from './finding.ts'

const subject = 'models'

/** `model`, `modelParts`: the values of MODEL and MODEL_PARTS. Also returns the size of that model, if it exists. */
export async function examineModels(
  modelsDir: string,
  model: string,
  modelParts: string | undefined,
): Promise<{ findings: Finding[]; modelBytes: number | undefined }> {
  const stored = await listModels(modelsDir)
  const findings = stored.map(({ name, bytes, dtype, state, problem }): Finding => {
    if (problem === undefined)
      return { subject, state: 'ok', says: `${name}: ${state === 'parts' ? 'parts without weights' : dtype}, ${toSize(bytes)}` }
    const mend = state === 'partial' ? `easel pull ${name}` : `pull it again, or remove it: easel rm ${name}`
    return { subject, state: 'warn', says: `${name} is not complete: ${problem}`, mend }
  })
  try {
    const { folder, file } = resolveModel(model, { modelsDir, modelParts })
    return { findings, modelBytes: stored.find(({ path }) => path === (file ?? folder))?.bytes }
  } catch (error) {
    return { findings: [...findings, toFailure('MODEL', error)], modelBytes: undefined }
  }
}
