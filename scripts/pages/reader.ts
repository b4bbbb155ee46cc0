/**
 * Owns a reader who follows a page: a home folder of its own with a clone of this project in it, and a shell that types what the page says.
 *
 * Invariant: every block that needs nothing special is run as it is written, in the order of the page; only the ports differ, so that
 * nothing else on the machine is disturbed. What keeps running (`npm start`, a receiver) gets a terminal of its own, as the pages say, and is
 * ended with the page. The shell finds the Node that it is given, and none of the workspace's programs. Knows nothing about the content of
 * pages. Runs in tests.
 */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, rm, symlink } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { findFreePort } from '@easel/redis-server'
import { ensureDependencies } from '../setup/ensure-dependencies.js'
import { hostPath } from '../packages/empty-project.ts'
import type { FollowedPage } from './pages.ts'
import { readSnippets, root, type Snippet } from './snippets.ts'

export interface ReaderOptions {
  /** Folder of the `node` that the reader uses; undefined for the one of this machine. */
  nodeFolder?: string
  /** URL of a service that is already running; undefined when the page starts one. */
  url?: string
  /** Milliseconds after which a page that has not finished is stopped: less than the test's limit, so that nothing outlives the test. */
  limitMs: number
}

export interface Reader {
  /** Follows a page to its end and returns everything that was printed. If a command fails, throws an error that contains it. */
  follow(page: string, options: FollowedPage): Promise<string>
  /** Whether a file is there, in the clone or at `~/…`. */
  has(file: string): boolean
  close(): Promise<void>
}

/** A line that keeps its terminal: variables may stand before it, a comment after it. */
const keepsTerminal = /^(?:[A-Z_0-9]+=(?:\$\(.*?\)|\S+) )*(?:npm start|npm run start:\w+|node \S+\.mjs)(?: +#.*)?$/

/**
 * `terminal LINE` starts the line in the background (services in the clone) and waits until it is ready: until the service says so, or a
 * receiver listens. A line that is started again replaces the previous one, which Ctrl-C would have ended.
 */
const prelude = `
set -eo pipefail
declare -A terminals
opened=0
stop() { kill -TERM $1 2>/dev/null || true; wait $1 2>/dev/null || true; }
stop_named() { if [ -n "\${terminals[$1]}" ]; then stop \${terminals[$1]}; unset "terminals[$1]"; fi; }
stop_all() { for name in "\${!terminals[@]}"; do stop \${terminals[$name]}; done; cat ~/terminal-*.log 2>/dev/null || true; }
trap stop_all EXIT
declare -A shown
until_shown() {
  shown[$1]=$((\${shown[$1]:-0} + 1))
  until [ "$(cat ~/terminal-*.log | grep -c "$1")" -ge "\${shown[$1]}" ]; do sleep 0.1; done
}
terminal() {
  opened=$((opened + 1))
  local name=$opened log=~/terminal-$opened.log folder=~/easel ready
  case "$1" in
    *'npm start'*) name=service; ready='Easel is ready' ;;
    *start:worker*) ready='"msg":"ready"' ;;
    *) name=receiver; folder=$PWD ;;
  esac
  stop_named $name
  (cd $folder && exec bash -c "$1") > $log 2>&1 &
  terminals[$name]=$!
  until if [ -n "$ready" ]; then grep -q "$ready" $log; else (: < /dev/tcp/localhost/$RECEIVER_PORT) 2>/dev/null; fi; do
    kill -0 \${terminals[$name]} || { echo "ended: $1"; exit 1; }
    sleep 0.1
  done
}
`

export async function openReader({ nodeFolder, url, limitMs }: ReaderOptions): Promise<Reader> {
  const home = await mkdtemp(join(tmpdir(), 'easel-reader-'))
  const clone = join(home, 'easel')
  await cloneInto(clone)
  const [port, receiverPort] = [await findFreePort(), await findFreePort()]
  const service = new URL(url ?? `http://localhost:${port}`)
  const path = [...(nodeFolder === undefined ? [] : [nodeFolder]), ...hostPath()].join(delimiter)
  const env = {
    PATH: path,
    HOME: home,
    // As on a machine that has installed packages before: they come from npm's cache if they are there.
    npm_config_cache: process.env['npm_config_cache'] ?? join(homedir(), '.npm'),
    npm_config_prefer_offline: 'true',
    PORT: String(port),
    EASEL_URL: service.origin,
    RECEIVER_PORT: String(receiverPort),
    SHUTDOWN_GRACE: '1',
  }
  const withPorts = (code: string): string =>
    code
      .replaceAll('localhost:8500', service.host)
      .replaceAll('tcp:8500', `tcp:${port}`)
      .replaceAll(/(localhost:|listen\()3000/g, `$1${receiverPort}`)

  return {
    async follow(page, { given = '', languages, shows = {} }) {
      const snippets = readSnippets(page).filter((each) => each.needs === undefined && (languages?.includes(each.language) ?? true))
      const lines = [prelude, ...typed(withPorts(given), {})]
      for (const snippet of snippets) {
        const code = withPorts(snippet.code)
        lines.push(`echo '--- ${snippet.place}'`)
        const [, file] = /^(?:#|\/\/) (~?[\w./-]+\.\w+)$/m.exec(code.split('\n')[0] ?? '') ?? []
        if (file !== undefined) lines.push(...write(file, code))
        else if (snippet.language === 'sh') lines.push(...typed(code, shows))
        else if (snippet.language === 'python') lines.push(...write('page.py', code), 'python3 page.py')
      }
      for (const [n, code] of toPrograms(snippets).entries()) {
        const name = `page-${n + 1}`
        // A server would run for ever; by this point all lines have been run.
        const ended = code.includes('.listen(') ? `${code}\nprocess.exit(0)\n` : code
        lines.push(
          `echo '--- ${page}, program ${n + 1}'`,
          'cd ~/easel',
          ...write(`examples/${name}.ts`, withPorts(ended)),
          `npm run example ${name}`,
        )
      }
      return await runShell(lines.join('\n'), { cwd: clone, env, timeout: limitMs })
    },
    has: (file) => existsSync(file.startsWith('~/') ? join(home, file.slice(2)) : join(clone, file)),
    async close() {
      await rm(home, { recursive: true, force: true })
    },
  }
}

/** What git would clone, plus uncommitted changes. The dependencies are those of the workspace, because no page is about the first install. */
async function cloneInto(clone: string): Promise<void> {
  // A clone that finds the dependencies older than its lock file would install into the folder that it shares.
  ensureDependencies(root)
  const args = ['ls-files', '-z', '--cached', '--others', '--exclude-standard']
  const files = execFileSync('git', args, { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 26 })
    .split('\0')
    .filter((file) => existsSync(join(root, file)) && file !== '')
  for (const file of files) {
    await mkdir(dirname(join(clone, file)), { recursive: true })
    await cp(join(root, file), join(clone, file))
  }
  await symlink(join(root, 'node_modules'), join(clone, 'node_modules'))
  for (const folder of new Set(files.filter((file) => file.endsWith('/package.json')).map(dirname))) {
    // These contain only relative links to the workspace's packages, which in the clone lead to the clone's packages.
    if (existsSync(join(root, folder, 'node_modules')))
      await cp(join(root, folder, 'node_modules'), join(clone, folder, 'node_modules'), { recursive: true, verbatimSymlinks: true })
  }
  await cp(join(root, 'services/api/playground/dist'), join(clone, 'services/api/playground/dist'), { recursive: true, force: true }).catch(
    () => {},
  )
  await symlink(join(clone, 'services/api/node_modules/@fal-ai'), join(clone, 'examples/node_modules/@fal-ai'))
}

/** Lines of shell as they are written, except those that keep their terminal; after some, the reader waits for what the terminals show. */
function typed(code: string, shows: Readonly<Record<string, string>>): string[] {
  return code.split('\n').flatMap((line) => {
    if (line.startsWith('# after Ctrl-C')) return ['stop_named service']
    const sign = Object.entries(shows).find(([part]) => line.includes(part))?.[1]
    const wait = sign === undefined ? [] : [`until_shown ${quote(sign)}`]
    return [keepsTerminal.test(line) ? `terminal ${quote(line)}` : line, ...wait]
  })
}

function write(file: string, code: string): string[] {
  const path = file.replace(/^~/, '$HOME')
  return [`mkdir -p "$(dirname "${path}")"`, `cat > "${path}" <<'END_OF_FILE'\n${code}\nEND_OF_FILE`]
}

const quote = (line: string): string => `'${line.replaceAll("'", String.raw`'\''`)}'`

/** Blocks of TypeScript belong to one program until a block imports a package that is new to the page. */
function toPrograms(snippets: readonly Snippet[]): string[] {
  const programs: string[] = []
  const known = new Set<string>()
  for (const { language, code } of snippets) {
    if (language !== 'ts') continue
    const imported = [...code.matchAll(/^import .* from '([^']+)'$/gm)].map((match) => match[1] ?? '')
    const isNew = imported.some((name) => !name.startsWith('node:') && !known.has(name))
    for (const name of imported) known.add(name)
    if (isNew || programs.length === 0) programs.push(code)
    else programs.push(`${programs.pop()}\n${code}`)
  }
  return programs
}

async function runShell(script: string, options: { cwd: string; env: Record<string, string>; timeout: number }): Promise<string> {
  const child = spawn('bash', ['-c', `exec 2>&1\n${script}`], { ...options, stdio: ['ignore', 'pipe', 'inherit'] })
  const ended = new Promise<number | null>((resolve) => child.once('close', resolve))
  const [out, code] = await Promise.all([text(child.stdout), ended])
  if (code !== 0) throw new Error(`Expected the page's commands to end with 0, got ${code}:\n${out.slice(-6000)}`)
  return out
}
