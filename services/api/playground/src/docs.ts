/** Starts Scalar with the api's own description. It asks no server but this one. Runs in the browser, on /docs. */

/** The part that is used of Scalar's bundle, which a script element before this one has loaded. */
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
