/** Names of models where a dialect wants `owner/name`: a model without an owner is `local/NAME`. Pure. */

const localOwner = 'local/'

export function toOwnedName(modelId: string): string {
  return modelId.includes('/') ? modelId : localOwner + modelId
}

export function toModelIdOf(ownedName: string): string {
  return ownedName.startsWith(localOwner) ? ownedName.slice(localOwner.length) : ownedName
}
