/**
 * The rules of the code, and who may import whom: packages first, then the rooms (the folders) inside the larger ones. A rule about imports
 * replaces an earlier one for the same file, so the rule of a room repeats that of its package.
 */
import { defineConfig } from 'oxlint'

interface Restriction {
  paths?: { name: string; message: string }[]
  patterns: { regex?: string; group?: string[]; allowTypeImports?: boolean; message: string }[]
}

interface Room {
  /** The rooms that it imports; nothing else of its package but the files beside the rooms. */
  imports: string[]
  /** Why no others. */
  why: string
}

/** Only these talk to ONNX Runtime. */
const onnxFiles = 'packages/pipeline/src/models/onnx-{session,runtime}.ts'
const noOnnx = { name: 'onnxruntime-node', message: `Only ${onnxFiles} talk to ONNX Runtime.` }

function override(files: string | string[], restriction: Restriction) {
  return { files: [files].flat(), rules: { 'eslint/no-restricted-imports': ['error', restriction] as ['error', Restriction] } }
}

/** What a package or service may not import. `regex`: of the names of packages. */
function withoutPackages(regex: string, message: string): Restriction {
  return { patterns: [{ regex, message }] }
}

/** The rules of the rooms of a package. `closed`: files beside the rooms that no room imports, as they put the rooms together. */
function rooms(src: string, { paths, patterns }: Restriction, table: Record<string, Room>, closed: string[] = []) {
  return Object.entries(table).map(([room, { imports, why }]) => {
    // A room may have folders of its own, from which the way to another room is longer by one.
    const allowed = imports.flatMap((other) => [`!../${other}/*`, `!../../${other}/*`])
    const closedPaths = closed.flatMap((file) => [`../${file}`, `../../${file}`])
    const group = ['../*/**', '!../../test/**', '!../../../test/**', '!../../*.ts', ...allowed, ...closedPaths]
    return override(`${src}/${room}/**`, { paths, patterns: [...patterns, { group, message: why }] })
  })
}

const pipeline: Restriction = {
  paths: [noOnnx],
  patterns: [{ regex: '^(@easel/|bullmq|ioredis|hono|@hono/)', message: 'The pipeline library knows no jobs, queues or HTTP.' }],
}
const pipelineRooms: Record<string, Room> = {
  sd3: {
    imports: ['runtime', 'models', 'graphs', 'schedulers', 'tokenizers', 'tensor'],
    why: 'The pipeline knows neither who makes views of it nor who shows its previews.',
  },
  previews: { imports: ['sd3', 'models', 'tensor'], why: 'A preview needs latents and nothing that makes them.' },
  'request-scoped': { imports: ['schedulers'], why: 'Request scoping serves any pipeline class.' },
  runtime: { imports: ['tensor'], why: 'The runtime shares a device; it knows no model and no pipeline.' },
  graphs: { imports: ['models', 'tensor'], why: 'A graph knows what is read and run of it, and neither who runs it nor what for.' },
  models: {
    imports: ['tensor'],
    why: 'A model runs a graph and no more: it knows neither who wrote the graph nor what it is run for.',
  },
  schedulers: { imports: ['tensor'], why: 'A scheduler knows noise levels and tensors only.' },
  tokenizers: { imports: ['models'], why: 'A tokenizer knows its own files only.' },
  tensor: { imports: [], why: 'Arrays and random numbers serve every other room and know none.' },
}

const api = withoutPackages('^(@easel/(pipeline|model-store|gpu-worker|cli)|onnxruntime-node)', 'The api runs no model.')
const apiRooms: Record<string, Room> = {
  routes: {
    imports: ['events', 'inputs', 'jobs', 'metrics', 'middleware', 'problems', 'status', 'webhooks'],
    why: 'The routes of this service know nothing of other services’ words, and nothing of what runs beside the requests.',
  },
  maintenance: { imports: ['inputs', 'jobs', 'webhooks'], why: 'Maintenance serves no request.' },
  webhooks: { imports: ['dialects', 'jobs', 'outbound'], why: 'A webhook message tells about a job, in the shape of its dialect.' },
  dialects: {
    imports: ['events', 'inputs', 'jobs', 'middleware', 'problems'],
    why: 'A dialect owns words and shapes; it knows no other dialect, and not who sends its webhook messages.',
  },
  status: { imports: ['metrics'], why: 'The status is put together from what is measured.' },
  metrics: { imports: ['jobs'], why: 'Metrics count what happens and change nothing.' },
  jobs: { imports: ['inputs', 'outbound', 'problems'], why: 'A job knows neither HTTP nor in whose words it was asked for.' },
  inputs: { imports: ['middleware', 'outbound', 'problems'], why: 'An input picture does not know for which job it is.' },
  events: { imports: [], why: 'Who follows a job needs nothing but its record.' },
  middleware: { imports: ['problems'], why: 'What every request passes knows no single route.' },
  outbound: { imports: [], why: 'A request to elsewhere does not know what it is for.' },
  problems: { imports: [], why: 'What is wrong with a request is said in one way by all rooms.' },
}

const worker = withoutPackages(
  '^(@easel/(api|client|cli)|hono|@hono/|onnxruntime-node)',
  'The worker knows no HTTP api; only packages/pipeline talks to ONNX Runtime.',
)
const workerEngine: Restriction = {
  patterns: [...worker.patterns, { group: ['../*', '!../../test/**'], message: 'The engine makes pictures and knows no jobs.' }],
}

const cli = withoutPackages('^(@easel/(api|gpu-worker)|hono|@hono/|onnxruntime-node)', 'The command line starts the services as processes.')
const cliRooms: Record<string, Room> = {
  commands: { imports: ['doctor', 'setup', 'terminal'], why: 'A command knows no other entry to the program.' },
  services: { imports: ['setup'], why: 'What runs in the process of a service prints nothing.' },
  doctor: { imports: ['terminal'], why: 'A check looks and changes nothing.' },
  setup: { imports: [], why: 'What is set up does not know which command asked for it.' },
  terminal: { imports: [], why: 'The terminal shows what it is given.' },
}

export default defineConfig({
  plugins: ['typescript', 'import', 'node', 'unicorn', 'promise', 'vitest', 'oxc'],
  categories: { correctness: 'error', suspicious: 'error' },
  rules: {
    'import/no-cycle': 'error',
    'import/no-unassigned-import': 'off',
    'node/no-process-env': 'error',
    'typescript/no-floating-promises': 'error',
    'typescript/no-misused-promises': 'error',
    'typescript/await-thenable': 'error',
    'typescript/no-explicit-any': 'error',
    'typescript/consistent-type-imports': 'error',
    'typescript/no-unsafe-type-assertion': 'off',
    'typescript/switch-exhaustiveness-check': 'error',
    'eslint/eqeqeq': ['error', 'smart'],
    'eslint/no-underscore-dangle': 'off',
    'eslint/no-shadow': 'off',
    'eslint/no-await-in-loop': 'off',
    'eslint/no-console': 'error',
    'unicorn/consistent-function-scoping': 'off',
    'unicorn/no-array-sort': 'off',
    'unicorn/require-post-message-target-origin': 'off',
    'unicorn/no-array-reverse': 'off',
    'promise/always-return': 'off',
    'vitest/require-mock-type-parameters': 'off',
    'vitest/no-conditional-tests': 'off',
    'eslint/no-restricted-imports': ['error', { paths: [noOnnx] }],
    'eslint/max-lines': ['error', { max: 300 }],
    'eslint/max-lines-per-function': ['error', { max: 80, skipComments: true, skipBlankLines: true }],
    'eslint/id-match': ['error', '[a-z]|^.$|^DEVICES$', { onlyDeclarations: true, ignoreDestructuring: true }],
  },
  overrides: [
    override('packages/contract/src/**', {
      patterns: [{ group: ['*', '!./*', '!zod', '!vitest'], message: 'contract imports zod and nothing else.' }],
    }),
    override('packages/client/src/**', {
      patterns: [{ regex: '^(@|node:|[a-uw-z])', allowTypeImports: true, message: 'The client takes types from elsewhere and no code.' }],
    }),
    override(
      'packages/storage/src/**',
      withoutPackages(
        '^(@easel/(contract|input-pictures|job-store|model-store|pipeline|process$)|bullmq|ioredis|hono|@hono/)',
        'Storage knows keys and bytes only; of a process it takes the folders alone.',
      ),
    ),
    override(
      'packages/input-pictures/src/**',
      withoutPackages(
        '^(@easel/(job-store|pipeline|process|storage|model-store)|bullmq|ioredis|hono|@hono/)',
        'A picture is bytes; where they come from is another’s.',
      ),
    ),
    override(
      'packages/process/src/**',
      withoutPackages('^(@easel/|ioredis|hono|@hono/)', 'The home of a process knows nothing about what it does.'),
    ),
    override(
      'packages/job-store/src/**',
      withoutPackages(
        '^(@easel/(pipeline|process|storage|api|gpu-worker)|hono|@hono/|onnxruntime-node)',
        'The job store knows the contract and Redis only.',
      ),
    ),
    override(
      'packages/model-store/src/**',
      withoutPackages(
        '^(@easel/(job-store|process$|storage|api|gpu-worker|cli)|bullmq|ioredis|hono|@hono/|onnxruntime-node)',
        'The model store knows files, the hub and what the pipeline loads.',
      ),
    ),
    override(
      'packages/redis-server/src/**',
      withoutPackages('^(@easel/|bullmq|ioredis|hono|@hono/)', 'It starts a program and knows nothing of what is in it.'),
    ),
    override('packages/pipeline/src/**', pipeline),
    ...rooms('packages/pipeline/src', pipeline, pipelineRooms),
    ...rooms('packages/pipeline/src', { patterns: pipeline.patterns }, { models: pipelineRooms['models']! }).map((room) => ({
      ...room,
      files: [onnxFiles],
    })),
    override('services/api/src/**', api),
    ...rooms('services/api/src', api, apiRooms, ['app.ts', 'index.ts', 'main.ts', 'serve.ts']),
    // Tests start a whole api.
    override('services/api/src/**/*.test.ts', api),
    override('services/gpu-worker/src/**', worker),
    override('services/gpu-worker/src/engine/**', workerEngine),
    override('services/gpu-worker/src/engine/**/*.test.ts', worker),
    override('packages/cli/src/**', cli),
    ...rooms('packages/cli/src', cli, cliRooms, ['main.ts']),
    override('scripts/**', { patterns: [{ regex: '/test/', message: 'What only tests use is not for scripts that people run.' }] }),
    { files: ['scripts/start-easel.ts'], rules: { 'eslint/no-restricted-imports': 'off' } },
    {
      files: [
        '**/config.ts',
        '**/*.test.ts',
        '**/test/**',
        'bench/**',
        'examples/**',
        'packages/cli/**',
        'scripts/**',
        'vitest.config.ts',
        'tools/**',
      ],
      rules: { 'node/no-process-env': 'off' },
    },
    {
      files: ['bench/**', 'examples/**', 'packages/cli/**', 'scripts/**', 'tools/**'],
      rules: { 'eslint/no-console': 'off' },
    },
    { files: ['**/*.test.ts', '**/test/**'], rules: { 'eslint/max-lines': 'off', 'eslint/max-lines-per-function': 'off' } },
  ],
  ignorePatterns: ['node_modules', 'dist', 'data', 'demo-output'],
})
