/**
 * Owns a real Redis server that accepts only TLS connections and has one user, who may do what Easel needs and nothing else.
 *
 * Invariant: the server and its certificates are gone when `stop()` has been called. Runs in test processes.
 */
import { spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { aclRules } from './acl-rules.ts'
import { findFreePort, findRedisServer, startRedis } from './redis-server.ts'

export interface TlsServer {
  /** What the services need to reach it. */
  readonly variables: Record<string, string>
  readonly port: number
  /** The file with the authority's certificate. */
  readonly caFile: string
  readonly password: string
  stop(): Promise<void>
}

/** The reason why it cannot be started on this machine; undefined if it can. */
export function whyNoTls(): string | undefined {
  const binary = findRedisServer()
  if (binary === undefined) return 'no redis-server or valkey-server'
  if (spawnSync('openssl', ['version']).status !== 0) return 'no openssl'
  // A server built without TLS exits because it does not know the option; one with TLS exits because it has no certificate.
  const { stdout } = spawnSync(binary, ['--port', '0', '--tls-port', '1'], { encoding: 'utf8', timeout: 5000 })
  return /tls-cert-file|Failed to configure TLS/.test(stdout) ? undefined : `${binary} is built without TLS`
}

export async function startTlsServer(): Promise<TlsServer> {
  const dir = await mkdtemp(join(tmpdir(), 'easel-tls-'))
  const removeDir = (): Promise<void> => rm(dir, { recursive: true, force: true })
  const file = (name: string): string => join(dir, name)
  try {
    const newKey = ['req', '-new', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1']
    openssl([...newKey, '-x509', '-subj', '/CN=Easel test authority', '-keyout', file('ca.key'), '-out', file('ca.crt')])
    const signed = ['-x509', '-CA', file('ca.crt'), '-CAkey', file('ca.key'), '-addext', 'subjectAltName=DNS:localhost']
    openssl([...newKey, ...signed, '-subj', '/CN=localhost', '-keyout', file('server.key'), '-out', file('server.crt')])
    const password = 'p@ss:w/ord'
    await writeFile(file('users.acl'), `user default off\nuser easel on >${password} ${aclRules}\n`)

    const port = await findFreePort()
    const certificate = ['--tls-cert-file', file('server.crt'), '--tls-key-file', file('server.key'), '--tls-ca-cert-file', file('ca.crt')]
    const tls = ['--port', '0', '--tls-port', String(port), '--tls-auth-clients', 'no', ...certificate]
    const server = await startRedis({ port, args: [...tls, '--aclfile', file('users.acl')] })
    return {
      variables: {
        REDIS_URL: `rediss://easel:${encodeURIComponent(password)}@localhost:${port}`,
        REDIS_TLS_CA: file('ca.crt'),
      },
      port,
      caFile: file('ca.crt'),
      password,
      async stop() {
        await server.stop()
        await removeDir()
      },
    }
  } catch (error) {
    await removeDir()
    throw error
  }
}

function openssl(args: string[]): void {
  const { status, stderr } = spawnSync('openssl', args, { encoding: 'utf8' })
  if (status !== 0) throw new Error(`Expected openssl to make a certificate, got ${stderr}`)
}
