/**
 * Finds out which of the operators that a graph would use give the right numbers here.
 *
 * Invariant: an operator that is kept has been run on the provider by itself and agreed with ONNX's plain operators on the CPU. One
 * that failed or was off is replaced by 'plain', and a warning says so. The lengths tried lie on both sides of the points where kernels
 * switch methods, because a short input may pass where a longer one is wrong. Runs in the engine process, once, before a model is loaded.
 */
import { OnnxSession } from '../models/onnx-session.ts'
import type { Feed } from '../models/onnx-session.ts'
import type { OnnxSessionOptions } from '../models/session-options.ts'
import { Generator, randn } from '../tensor/random-normal.ts'
import type { ComputeType } from './graph-builder.ts'
import { encodeOnnxModel } from './onnx-model.ts'
import { buildOperatorCheckGraph, checkWidth, checkedOperators } from './operator-check-graph.ts'
import { plainOperators } from './operator-choices.ts'
import type { OperatorChoices } from './operator-choices.ts'

const checkedTokens = [63, 64, 100, 333]
/** The largest difference allowed between values around 1. A wrong operator is off by far more. */
const largestDifferences: Readonly<Record<ComputeType, number>> = { float32: 1e-3, float16: 5e-2 }

export async function checkOperators(
  choices: OperatorChoices,
  computeType: ComputeType,
  session: OnnxSessionOptions,
): Promise<OperatorChoices> {
  const checked = { ...choices }
  for (const operator of checkedOperators) {
    const name = choices[operator]
    if (name === 'plain') continue
    const fault = await findFault(operator, choices, computeType, session)
    if (fault === undefined) continue
    checked[operator] = 'plain'
    process.emitWarning(`${name} on ${session.provider ?? 'cpu'} ${fault}; plain operators are used in its place`)
  }
  return checked
}

/** Says what is wrong with an operator; undefined when nothing is. */
async function findFault(
  operator: (typeof checkedOperators)[number],
  choices: OperatorChoices,
  computeType: ComputeType,
  session: OnnxSessionOptions,
): Promise<string | undefined> {
  const open = (operators: OperatorChoices, type: ComputeType, options: OnnxSessionOptions) => {
    const bytes = encodeOnnxModel(buildOperatorCheckGraph(operator, { operators, computeType: type, weights: 'packed' }))
    return OnnxSession.load({ name: `the self-test of ${operator}`, bytes, weights: 'packed', betweenRuns: 'open' }, options)
  }
  const sessions: OnnxSession[] = []
  try {
    sessions.push(await open(plainOperators, 'float32', { intraOpNumThreads: session.intraOpNumThreads }))
    sessions.push(await open({ ...plainOperators, [operator]: choices[operator] }, computeType, session))
    const [right, tried] = sessions as [OnnxSession, OnnxSession]
    for (const tokens of checkedTokens) {
      const x = randn([1, tokens, checkWidth], new Generator(tokens))
      const off = largestDifference(await runCheck(right, x), await runCheck(tried, x))
      if (!(off <= largestDifferences[computeType])) return `is ${off.toPrecision(2)} off at ${tokens} tokens`
    }
    return undefined
  } catch (error) {
    return `fails: ${(error as Error).message.split('\n')[0]}`
  } finally {
    await Promise.all(sessions.map((each) => each.release()))
  }
}

async function runCheck(session: OnnxSession, x: Feed): Promise<Float32Array> {
  const { y } = await session.run({ x }, ['y'])
  return (y as NonNullable<typeof y>).data
}

/** The largest difference; NaN where a value is NaN. */
function largestDifference(a: Float32Array, b: Float32Array): number {
  return a.reduce((largest, value, index) => Math.max(largest, Math.abs(value - (b[index] as number))), 0)
}
