/** Starts Scalar with the api's own description. It sends requests to no other server. Runs in the browser, on /docs. */

/** The part of Scalar's bundle that is used; an earlier script element has loaded it. */
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
