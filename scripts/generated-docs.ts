/**
 * The documents that are generated from the code: the variables of both services and the error codes. `npm run docs` writes them, and a test fails
 * when one of them differs from what the code says.
 */
import { z } from 'zod'
import { jobErrorTable, problemTable } from '../packages/contract/src/index.ts'
import { apiVariables } from '../services/api/src/config.ts'
import { workerVariables } from '../services/gpu-worker/src/config.ts'

interface Variable {
  name: string
  /** The default as it would be written in the environment; empty when there is none. */
  default: string
  /** What the variable means, by service. */
  meanings: Map<string, string>
}

/** The texts by their path in the repository. */
export function generatedDocs(): Record<string, string> {
  const variables = collectVariables()
  return { '.env.example': toEnvExample(variables), 'docs/variables.md': toVariableTable(variables), 'docs/errors.md': toErrorTables() }
}

function collectVariables(): Variable[] {
  const found = new Map<string, Variable>()
  for (const [service, schemas] of Object.entries({ api: apiVariables, 'gpu-worker': workerVariables })) {
    for (const [name, schema] of Object.entries(schemas as Record<string, z.ZodType>)) {
      const input = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as { default?: unknown; enum?: string[] }
      const variable = found.get(name) ?? { name, default: toText(input.default), meanings: new Map<string, string>() }
      if (schema.description === undefined) throw new Error(`Expected ${name} to have a description, got none`)
      variable.meanings.set(service, schema.description + toChoice(schema.description, input.enum))
      found.set(name, variable)
    }
  }
  return [...found.values()]
}

/** The possible values, unless the description explains all of them. */
function toChoice(description: string, values: readonly string[] = []): string {
  const names = values.map((value) => `\`${value}\``)
  return names.every((name) => description.includes(name)) ? '' : ` One of ${names.join(', ')}.`
}

/** A meaning that the services share is written once. */
function toDescription(meanings: ReadonlyMap<string, string>): string {
  const [first = '', ...others] = new Set(meanings.values())
  return others.length === 0 ? first : [...meanings].map(([service, meaning]) => `${service}: ${meaning}`).join(' ')
}

function toText(value: unknown): string {
  if (value === undefined) return ''
  if (Array.isArray(value)) return value.join(',')
  return typeof value === 'string' ? value : JSON.stringify(value)
}

function toEnvExample(variables: Variable[]): string {
  const entries = variables.map(
    ({ name, default: value, meanings }) => `# ${toDescription(meanings)} (${[...meanings.keys()].join(', ')})\n#${name}=${value}\n`,
  )
  return `# Every variable, with its default. Remove the # to set one. Written by \`npm run docs\`.\n\n${entries.join('\n')}`
}

function toVariableTable(variables: Variable[]): string {
  const rows = variables.map(
    ({ name, default: value, meanings }) =>
      `| \`${name}\` | ${value === '' ? '' : `\`${value}\``} | ${[...meanings.keys()].join(', ')} | ${toDescription(meanings).replaceAll('|', '\\|')} |`,
  )
  const intro =
    'For whoever sets Easel up: every setting of the api and of the workers. A variable that is empty counts as unset. All problems are reported at once, by name, and the service ends with 1.'
  return `# Variables\n\n${intro} Written by \`npm run docs\`.\n\n| name | default | read by | meaning |\n|---|---|---|---|\n${rows.join('\n')}\n`
}

function toErrorTables(): string {
  const problems = Object.entries(problemTable).map(
    ([code, row]) => `| \`${code}\` | ${row.status} | ${row.retryable ? 'yes' : 'no'} | ${row.title} |`,
  )
  const ends = Object.entries(jobErrorTable).map(([code, row]) => `| \`${code}\` | ${row.retryable ? 'yes' : 'no'} | ${row.message} |`)
  return `# Errors

For those who call Easel and have to decide what to do about a refused request or a failed job. Written by \`npm run docs\` from \`packages/contract/src/errors.ts\`.

## Answers

Every error is \`application/problem+json\` (RFC 9457) with \`code\`, \`status\`, \`title\`, \`detail\`, \`retryable\` and \`request_id\`; \`invalid_request\`
has \`errors\`, one entry for each refused field with \`field\`, \`expected\` and \`received\`. A retryable error has \`Retry-After\` if the time is known.

| code | status | retryable | title |
|---|--:|---|---|
${problems.join('\n')}

## Failed jobs

These are the values of \`error.code\` of a job whose status is \`failed\`. Retryable means that the same job, submitted again, may succeed.

| code | retryable | message |
|---|---|---|
${ends.join('\n')}
`
}
