/** Names of models where a dialect wants `owner/name`: a model without an owner is `local/NAME`. Pure. */

const localOwner = 'local/'

export function toOwnedName(modelId: string): string {
  return modelId.includes('/') ? modelId : localOwner + modelId
}

/** The owned name as a part of a URL: a folder may be called anything. */
export function toOwnedPath(modelId: string): string {
  return toOwnedName(modelId).split('/').map(encodeURIComponent).join('/')
}

export function toModelIdOf(ownedName: string): string {
  return ownedName.startsWith(localOwner) ? ownedName.slice(localOwner.length) : ownedName
}
