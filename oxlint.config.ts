/**
 * The rules of the code, and what may import what: packages first, then the rooms (the folders) inside the larger ones. A rule about imports
 * replaces an earlier one for the same file, so the rule of a room repeats that of its package.
 */
import { defineConfig } from 'oxlint'

interface Restriction {
  paths?: { name: string; message: string }[]
  patterns: { regex?: string; group?: string[]; allowTypeImports?: boolean; message: string }[]
}

interface Room {
  /** The rooms that it may import; of the rest of its package it may import only the files beside the rooms. */
  imports: string[]
  /** Why it may not import others. */
  why: string
}

/** Only these talk to ONNX Runtime. */
const onnxFiles = 'packages/pipeline/src/models/onnx-{session,runtime}.ts'
const noOnnx = { name: 'onnxruntime-node', message: `Only ${onnxFiles} talk to ONNX Runtime.` }

function override(files: string | string[], restriction: Restriction) {
  return { files: [files].flat(), rules: { 'eslint/no-restricted-imports': ['error', restriction] as ['error', Restriction] } }
}

/** What a package or service may not import. `regex` matches the names of packages. */
function withoutPackages(regex: string, message: string): Restriction {
  return { patterns: [{ regex, message }] }
}

/** The rules of the rooms of a package. `closed`: files beside the rooms that no room may import, because they assemble the rooms. */
function rooms(src: string, { paths, patterns }: Restriction, table: Record<string, Room>, closed: string[] = []) {
  return Object.entries(table).map(([room, { imports, why }]) => {
    // A room may have folders of its own, from which the path to another room has one more `..`.
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
    why: 'The pipeline does not know what makes views of it or shows its previews.',
  },
  previews: { imports: ['sd3', 'models', 'tensor'], why: 'A preview needs latents, not what makes them.' },
  'request-scoped': { imports: ['schedulers'], why: 'Request scoping serves any pipeline class.' },
  runtime: { imports: ['tensor'], why: 'The runtime shares a device; it knows no model and no pipeline.' },
  graphs: { imports: ['models', 'tensor'], why: 'A graph knows the files it is made from and the options it runs with, not what runs it.' },
  models: {
    imports: ['tensor'],
    why: 'A model only runs a graph: it does not know how the graph was written or what it is run for.',
  },
  schedulers: { imports: ['tensor'], why: 'A scheduler knows noise levels and tensors only.' },
  tokenizers: { imports: ['models'], why: 'A tokenizer knows its own files only.' },
  tensor: { imports: [], why: 'Arrays and random numbers serve every other room and know none.' },
}

const api = withoutPackages('^(@easel/(pipeline|model-store|gpu-worker|cli)|onnxruntime-node)', 'The api runs no model.')
const apiRooms: Record<string, Room> = {
  routes: {
    imports: ['events', 'inputs', 'jobs', 'metrics', 'middleware', 'problems', 'status', 'webhooks'],
    why: 'The routes of this service know neither the dialects nor what runs beside the requests.',
  },
  maintenance: { imports: ['inputs', 'jobs', 'webhooks'], why: 'Maintenance serves no request.' },
  webhooks: { imports: ['dialects', 'jobs', 'outbound'], why: 'A webhook message describes a job, in the shape of its dialect.' },
  dialects: {
    imports: ['events', 'inputs', 'jobs', 'middleware', 'problems'],
    why: 'A dialect translates names and shapes; it knows no other dialect and does not send webhook messages.',
  },
  status: { imports: ['metrics'], why: 'The status is assembled from what is measured.' },
  metrics: { imports: ['jobs'], why: 'Metrics count what happens and change nothing.' },
  jobs: { imports: ['inputs', 'outbound', 'problems'], why: 'A job knows neither HTTP nor the dialect of its request.' },
  inputs: { imports: ['middleware', 'outbound', 'problems'], why: 'An input picture does not know which job it is for.' },
  events: { imports: [], why: 'Following a job needs only its record.' },
  middleware: { imports: ['problems'], why: 'Middleware, which every request passes, knows no single route.' },
  outbound: { imports: [], why: 'An outbound request does not know what it is for.' },
  problems: { imports: [], why: 'All rooms report problems in the same way.' },
}

const worker = withoutPackages(
  '^(@easel/(api|client|cli)|hono|@hono/|onnxruntime-node)',
  'The worker knows no HTTP api; only packages/pipeline talks to ONNX Runtime.',
)
const workerRooms: Record<string, Room> = {
  queue: { imports: ['jobs', 'status'], why: 'The queue passes a job on and does not know how it is run.' },
  jobs: { imports: ['engine', 'pictures', 'status'], why: 'A job does not know how it was taken from the queue.' },
  pictures: { imports: ['engine'], why: 'A picture is pixels and a description; it does not know who asked for it.' },
  status: { imports: ['engine'], why: 'The status reports what it is told and knows no single job.' },
}
const workerEngine: Restriction = {
  patterns: [...worker.patterns, { group: ['../*', '../*/**', '!../../test/**'], message: 'The engine makes pictures and knows no jobs.' }],
}

const cli = withoutPackages('^(@easel/(api|gpu-worker)|hono|@hono/|onnxruntime-node)', 'The command line starts the services as processes.')
const cliRooms: Record<string, Room> = {
  commands: { imports: ['doctor', 'setup', 'terminal'], why: 'A command does not know how services are started.' },
  services: { imports: ['setup'], why: 'What runs in the process of a service prints nothing.' },
  doctor: { imports: ['terminal'], why: 'A check changes nothing.' },
  setup: { imports: [], why: 'Setting something up does not depend on the command that needs it.' },
  terminal: { imports: [], why: 'The terminal shows what it is given.' },
}

export default defineConfig({
  plugins: ['typescript', 'import', 'node', 'unicorn', 'promise', 'vitest', 'oxc'],
  categories: { correctness: 'error', suspicious: 'error' },
  rules: {
    'import/no-cycle': ['error', { ignoreTypes: false }],
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
      patterns: [
        { regex: '^(@|node:|[a-uw-z])', allowTypeImports: true, message: 'The client may import types from elsewhere, but no code.' },
      ],
    }),
    override(
      'packages/storage/src/**',
      withoutPackages(
        '^(@easel/(contract|input-pictures|job-store|model-store|pipeline|process$)|bullmq|ioredis|hono|@hono/)',
        'Storage knows only keys and bytes; from packages/process it may import only make-folder.',
      ),
    ),
    override(
      'packages/input-pictures/src/**',
      withoutPackages(
        '^(@easel/(job-store|pipeline|process|storage|model-store)|bullmq|ioredis|hono|@hono/)',
        'A picture is bytes; this package does not know where they come from.',
      ),
    ),
    override(
      'packages/process/src/**',
      withoutPackages('^(@easel/|ioredis|hono|@hono/)', 'What all processes have in common knows nothing about what a process does.'),
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
      withoutPackages('^(@easel/|bullmq|ioredis|hono|@hono/)', 'It starts a Redis server and knows nothing about what is stored in it.'),
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
    ...rooms('services/gpu-worker/src', worker, workerRooms, ['log-engine-event.ts', 'main.ts', 'worker-service.ts']),
    override('services/gpu-worker/src/engine/**', workerEngine),
    override('services/gpu-worker/src/engine/**/*.test.ts', worker),
    override('packages/cli/src/**', cli),
    ...rooms('packages/cli/src', cli, cliRooms, ['main.ts']),
    override('scripts/**', { patterns: [{ regex: '/test/', message: 'Code that only tests use is not for scripts that people run.' }] }),
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
