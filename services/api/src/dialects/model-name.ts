/** Names of models in dialects that require `owner/name`: a model without an owner is `local/NAME`. Pure. */

const localOwner = 'local/'

export function toOwnedName(modelId: string): string {
  return modelId.includes('/') ? modelId : localOwner + modelId
}

/** The name with its owner as part of a URL, escaped because a folder may have any name. */
export function toOwnedPath(modelId: string): string {
  return toOwnedName(modelId).split('/').map(encodeURIComponent).join('/')
}

export function toModelIdOf(ownedName: string): string {
  return ownedName.startsWith(localOwner) ? ownedName.slice(localOwner.length) : ownedName
}
