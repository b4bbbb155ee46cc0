/**
 * Configuration of FlowMatchEulerDiscreteScheduler: which fields there are, their ranges and defaults.
 *
 * Invariant: the result is complete and valid; an unknown field is an error, never ignored.
 * Knows nothing about files or schedules. Runs in any process that uses the library.
 */
import * as z from 'zod'

const schedulerClass = 'FlowMatchEulerDiscreteScheduler'

const count = z.int('an integer from 1 up').min(1, 'an integer from 1 up')
const trainTimesteps = 'an integer from 1 to 100000'
const finite = z.number('a number')
const positive = z.number('a number above 0').positive('a number above 0')
// Both are null in the files of some models with a fixed schedule.
const shiftOrDefault = (value: number) =>
  finite
    .nullable()
    .default(value)
    .transform((given) => given ?? value)
// diffusers' own files write null for a flag that was never set.
const flag = z
  .boolean('true or false')
  .nullable()
  .default(false)
  .transform((value) => value ?? false)

const schema = z
  .strictObject({
    /** The number of noise levels in training, all of which are computed. Default 1000. */
    numTrainTimesteps: z.int(trainTimesteps).min(1, trainTimesteps).max(100_000, trainTimesteps).default(1000),
    /** The weight of the noisy end of a fixed schedule, above 0; 1 leaves the schedule unchanged. Default 1. */
    shift: positive.default(1),
    /** Shift by `mu`, given with each request, instead of by `shift`. Default false. */
    useDynamicShifting: flag,
    /** The mu of an image with baseImageSeqLen tokens. Default 0.5. */
    baseShift: shiftOrDefault(0.5),
    /** The mu of an image with maxImageSeqLen tokens. Default 1.15. */
    maxShift: shiftOrDefault(1.15),
    /** In latent patches. Default 256. */
    baseImageSeqLen: count.default(256),
    /** In latent patches. Default 4096. */
    maxImageSeqLen: count.default(4096),
    /** Go from the picture to the noise: sigma becomes 1 - sigma. Default false. */
    invertSigmas: flag,
    /** Stretch the schedule so that it ends at this level, from 0 to below 1; null or 0 turns it off. Default null. */
    shiftTerminal: z
      .number('null or a number from 0 to below 1')
      .min(0, 'null or a number from 0 to below 1')
      .lt(1, 'null or a number from 0 to below 1')
      .nullable()
      .default(null),
    /** Space the levels as Karras et al. (2022). At most one of the three `use…Sigmas` may be set. Default false. */
    useKarrasSigmas: flag,
    /** Space the levels evenly in the logarithm. Default false. */
    useExponentialSigmas: flag,
    /** Space the levels by a beta distribution, Lee et al. (2024). Default false. */
    useBetaSigmas: flag,
    /** Whether dynamic shifting uses e^mu or mu itself. Default 'exponential'. */
    timeShiftType: z.enum(['exponential', 'linear'], "'exponential' or 'linear'").default('exponential'),
    /** Draw fresh noise at every step, from the step's generator. Default false. */
    stochasticSampling: flag,
  })
  .readonly()

export type FlowMatchEulerDiscreteConfig = z.output<typeof schema>

/** Completes and checks a configuration with camelCase fields. */
export function parseFlowMatchConfig(config: unknown): FlowMatchEulerDiscreteConfig {
  return parse(config, (field) => field)
}

/** Completes and checks the content of a scheduler_config.json, in snake_case and with diffusers' own `_…` fields. */
export function parseFlowMatchConfigJson(json: unknown): FlowMatchEulerDiscreteConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new TypeError(`Expected scheduler config to be an object, got ${show(json)}`)
  const className = '_class_name' in json ? json._class_name : schedulerClass
  if (className !== schedulerClass) throw new TypeError(`Expected _class_name to be "${schedulerClass}", got ${show(className)}`)
  const known = new Map(Object.keys(schema.unwrap().shape).map((field) => [toSnakeCase(field), field]))
  const fields = Object.entries(json).filter(([name]) => !name.startsWith('_'))
  for (const [name, value] of fields) if (!known.has(name)) throw unknownField(name, value, [...known.keys()])
  return parse(Object.fromEntries(fields.map(([name, value]) => [known.get(name), value])), toSnakeCase)
}

/** `toFieldName` gives a field the name it has in the caller's input. */
function parse(config: unknown, toFieldName: (field: string) => string): FlowMatchEulerDiscreteConfig {
  const result = schema.safeParse(config, { reportInput: true })
  if (!result.success) {
    const issue = result.error.issues[0]!
    if (issue.code === 'unrecognized_keys') {
      const values = new Map(Object.entries(config as object))
      throw unknownField(issue.keys[0]!, values.get(issue.keys[0]!), Object.keys(schema.unwrap().shape))
    }
    const field = issue.path.length === 0 ? 'scheduler config' : toFieldName(String(issue.path[0]))
    throw new TypeError(`Expected ${field} to be ${issue.message}, got ${show(issue.input)}`)
  }
  const spacings = (['useKarrasSigmas', 'useExponentialSigmas', 'useBetaSigmas'] as const).filter((field) => result.data[field])
  if (spacings.length > 1)
    throw new TypeError(
      `Expected at most one spacing of sigmas, got ${spacings.map((field) => `${toFieldName(field)} true`).join(' and ')}`,
    )
  return result.data
}

function unknownField(name: string, value: unknown, known: readonly string[]): TypeError {
  return new TypeError(`Expected only fields this scheduler supports (${known.join(', ')}), got ${name}: ${show(value)}`)
}

function toSnakeCase(field: string): string {
  return field.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

function show(value: unknown): string {
  return typeof value === 'number' || value === undefined ? String(value) : JSON.stringify(value)
}
