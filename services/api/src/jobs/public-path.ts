/** Paths as clients must ask for them. Pure. */

/** A path of this api for a header: PUBLIC_URL may have a path of its own, which a proxy takes away before the request comes here. */
export function toPublicPath({ publicUrl }: { publicUrl: string }, path: string): string {
  return new URL(publicUrl).pathname.replace(/\/$/, '') + path
}
