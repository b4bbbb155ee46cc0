/**
 * Where the api of `easel start` and `easel api` listens by default: on this machine only, as long as it asks for no key.
 *
 * Invariant: what the environment says is never changed. Containers start the service directly and are not affected.
 */

export interface FirstAddress {
  /** Variables to add to the environment. */
  env: Record<string, string>
  /** The base URL for users of this machine. */
  url: string
  /** Whether only this machine can reach the api, because that is the default. */
  isLocalOnly: boolean
}

export function chooseFirstAddress(variables: Readonly<Record<string, string | undefined>>): FirstAddress {
  const isSet = (name: string) => (variables[name] ?? '').trim() !== ''
  const port = isSet('PORT') ? variables['PORT'] : '8500'
  const isLocalOnly = !['HOST', 'API_KEYS', 'API_KEYS_FILE'].some(isSet)
  const env: Record<string, string> = {}
  if (isLocalOnly) {
    env['HOST'] = '127.0.0.1'
    // Pages of any origin also reach this machine's api, because they run in the browser of a user on this machine.
    if (!isSet('CORS_ORIGINS')) env['CORS_ORIGINS'] = `http://localhost:${port},http://127.0.0.1:${port}`
  }
  const host = isSet('HOST') ? (variables['HOST'] ?? '') : '0.0.0.0'
  const name = isLocalOnly || ['0.0.0.0', '::'].includes(host) ? 'localhost' : host.includes(':') ? `[${host}]` : host
  return { env, url: `http://${name}:${port}`, isLocalOnly }
}
