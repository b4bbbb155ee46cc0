/**
 * What counts as a tokenizer, and a tokenizer whose calls wait for their turn. Because a pipeline may be of any class, a tokenizer is
 * recognised by the methods it offers and by its name. Knows nothing about pipelines.
 */
import { type Lock, lockComponent } from './locked-component.ts'

const methods: ReadonlySet<PropertyKey> = new Set(['encode', 'encodeBatch', 'decode', 'decodeBatch', 'tokenize'])
const attributes = ['vocabSize', 'padToken', 'eosToken', 'bosToken']

/** `name`: what the pipeline calls it. Methods alone are not enough, because a VAE also encodes and decodes. */
export function isTokenizer(component: unknown, name: string): component is object {
  if (component === null || (typeof component !== 'object' && typeof component !== 'function')) return false
  const offered = ['encode', 'decode', 'tokenize'].some((method) => typeof Reflect.get(component, method) === 'function')
  if (!offered) return typeof component === 'function' && /^tokenizer_?\d*$/i.test(name)
  const className = component.constructor?.name ?? ''
  return /tokenizer/i.test(className) || /tokenizer/i.test(name) || attributes.some((attribute) => attribute in component)
}

export function lockTokenizer<T extends object>(tokenizer: T, lock: Lock): T {
  return lockComponent(tokenizer, lock, methods)
}
