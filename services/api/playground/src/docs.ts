/** Starts Scalar on the api's own description. Asks nobody but this server. Runs in the browser, on /docs. */

/** What of Scalar's bundle, loaded by a script element before this one, is used. */
interface ScalarBundle {
  createApiReference(selector: string, options: Record<string, unknown>): unknown
}

const { Scalar } = globalThis as unknown as { Scalar: ScalarBundle }

Scalar.createApiReference('#reference', {
  url: './openapi.json',
  withDefaultFonts: false,
  telemetry: false,
  agent: { disabled: true },
  mcp: { disabled: true },
  hideClientButton: true,
  showDeveloperTools: 'never',
  defaultOpenAllTags: true,
})
