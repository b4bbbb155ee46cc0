/**
 * The light view of a pipeline on which one request runs, made from outside. Weights stay shared; the scheduler and the mutable attributes
 * belong to the view; tokenizers, VAE and image processor take turns. Invariant: making and using a view never changes the base, and where
 * a piece of state cannot be separated the view is refused. A view is made synchronously, so it never sees half of another request's
 * change.
 */
import { type BaseAsyncScheduler, innerScheduler } from './base-async-scheduler.ts'
import { classNameOf, cloneMutable, type CloneOptions, isPlainObject, kindOf, ownFunctionOf } from './clone-mutable.ts'
import { pathTo } from './path-to.ts'
import type { SchedulerLike } from '../schedulers/retrieve-timesteps.ts'
import { shallowView } from './shallow-view.ts'

export interface ViewSettings {
  /** Attributes that are copied for every request, whatever they hold. */
  mutableAttrs: readonly string[]
  /** Attributes that every view shares with the base, functions included. */
  sharedAttrs: ReadonlySet<string>
  /** Whether every other attribute that holds mutable state is copied too. */
  autoDetectMutables: boolean
  /** Tensors and typed arrays with more elements than this stay shared. */
  tensorNumelThreshold: number
  /** What a view shows in place of a component of the base; the component itself where nothing changes. */
  component: (component: object, name: string) => object
  debug: (message: string) => void
  warn: (message: string) => void
}

interface Attribute {
  key: PropertyKey
  name: string
  descriptor: PropertyDescriptor
}

export function createRequestView<T extends object>(base: T, scheduler: BaseAsyncScheduler | undefined, settings: ViewSettings): T {
  // 1) The copy, and the map of replacements: first everything the base shows under any name.
  const view = shallowView(base, settings.warn)
  const replaced = new Map<unknown, unknown>([[base, view]])
  const replace = (value: object, name: string): unknown => {
    if (replaced.has(value)) return replaced.get(value)
    const own = settings.component(value, name)
    if (own !== value) replaced.set(value, own)
    return own
  }
  const attributes = attributesOf(base)
  const baseScheduler = readAttribute(base, 'scheduler') as SchedulerLike | undefined
  if (scheduler !== undefined && baseScheduler !== undefined) {
    replaced.set(baseScheduler, scheduler)
    replaced.set(innerScheduler(baseScheduler), scheduler)
  }
  for (const { key, name } of attributes) {
    if (settings.sharedAttrs.has(name)) continue
    const value = tryRead(base, key, name, settings)
    if (name === 'components') for (const [entry, component] of entriesOf(value)) if (isObject(component)) replace(component, entry)
    if (isObject(value) && (kindOf(value) === 'instance' || isPlainObject(value))) replace(value, name)
  }

  const unshareable = new Set(replaced.keys())

  // 2) The view's own mutable state, and the view's components in every field.
  const cloning: CloneOptions = { tensorNumelThreshold: settings.tensorNumelThreshold, seen: replaced, instance: replace }
  for (const { key, name, descriptor } of attributes) {
    if (name === 'components' || (name === 'scheduler' && scheduler !== undefined) || settings.sharedAttrs.has(name)) continue
    const listed = settings.mutableAttrs.includes(name)
    if (!('value' in descriptor)) {
      scopeAccessor(base, view, { key, name, descriptor }, listed || settings.autoDetectMutables, cloning, settings)
      continue
    }
    // The class's own clone() may have separated this attribute already.
    if (Reflect.get(view, key) !== descriptor.value) continue
    const own = ownVersion(descriptor.value, listed, settings.autoDetectMutables, cloning)
    if (own !== descriptor.value) Object.defineProperty(view, key, { ...descriptor, value: own, writable: true, configurable: true })
  }
  if (settings.mutableAttrs.includes('components')) settings.debug('components is never copied as state: the view shows its own entries')

  // 3) The two attributes that have a meaning of their own.
  scopeComponents(base, view, cloning)
  if (scheduler !== undefined) setScheduler(base, view, scheduler)

  // 4) Refuse what no copy can separate.
  assertNothingTied(base, settings)
  assertNothingHeld(view, attributes, unshareable, new Set(replaced.values()), settings)
  return view
}

/** Refuses a pipeline with own functions, which would run on the base when a view calls them. */
export function assertNothingTied(base: object, { sharedAttrs, component }: ViewSettings): void {
  const isExempt = (key: PropertyKey, member: object): boolean => {
    const name = String(key)
    return sharedAttrs.has(name) || component(member, name) !== member
  }
  const tied = ownFunctionOf(base, isExempt)
  if (tied === undefined) return
  const name = classNameOf(base)
  throw new TypeError(
    `Expected ${name} to be without functions as own properties, which stay tied to the base, got ${name}.${String(tied)}: ` +
      `make it a method, offer cloneForRequest(), or name it in sharedAttrs where it uses nothing of a request`,
  )
}

/** Refuses a view that holds an object leading back to the base, or past one of the view's components to the base's. */
function assertNothingHeld(
  view: object,
  attributes: readonly Attribute[],
  unshareable: ReadonlySet<unknown>,
  replacements: ReadonlySet<unknown>,
  settings: ViewSettings,
): void {
  for (const { key, name } of attributes) {
    const value = settings.sharedAttrs.has(name) ? undefined : tryRead(view, key, name, settings)
    if (!isObject(value) || typeof value === 'function' || (replacements.has(value) && kindOf(value) === 'instance')) continue
    const path = pathTo(value, unshareable, replacements)
    if (path === undefined) continue
    throw new TypeError(
      `Expected ${classNameOf(view)}.${name} to hold nothing that each request has for itself, got the base's own at ${name}${path}: ` +
        `offer cloneForRequest(), or name ${name} in sharedAttrs where it uses nothing of a request`,
    )
  }
}

function ownVersion(value: unknown, listed: boolean, detect: boolean, cloning: CloneOptions): unknown {
  if (cloning.seen.has(value)) return cloning.seen.get(value)
  const kind = kindOf(value)
  if (kind === 'primitive' || typeof value === 'function') return value
  if (kind !== 'instance') return listed || detect ? cloneMutable(value, cloning) : value
  if (!listed) return value
  const copy = shallowInstance(value as object)
  cloning.seen.set(value, copy)
  return copy
}

/** A listed class instance: the caller has declared it mutable, so it is copied or refused, never shared. */
function shallowInstance(value: object): object {
  const { clone } = value as { clone?: unknown }
  const copy: unknown =
    typeof clone === 'function'
      ? clone.call(value)
      : Object.create(Object.getPrototypeOf(value) as object, Object.getOwnPropertyDescriptors(value))
  if (isObject(copy) && copy !== value && (typeof clone === 'function' || ownFunctionOf(value) === undefined)) return copy
  throw new TypeError(`Expected mutable attribute of class ${classNameOf(value)} to offer clone(), got none that returns another object`)
}

function scopeAccessor(
  base: object,
  view: object,
  { key, name, descriptor }: Attribute,
  isState: boolean,
  cloning: CloneOptions,
  settings: ViewSettings,
): void {
  const value = tryRead(base, key, name, settings)
  // The fields behind an accessor are already the view's own, so what it returns is too.
  if (!isObject(value) || tryRead(view, key, name, settings) !== value) return
  const component = cloning.seen.get(value)
  if (component !== undefined && kindOf(component) === 'instance') {
    Object.defineProperty(view, key, { value: component, writable: true, configurable: true, enumerable: descriptor.enumerable ?? false })
    return
  }
  const kind = kindOf(value)
  if (!isState || kind === 'primitive' || kind === 'instance') return
  const copy = cloneMutable(value, cloning)
  if (copy === value) return
  const refusal = trySet(view, key, copy)
  if (Reflect.get(base, key) === copy) {
    trySet(base, key, value)
    throw new Error(`Expected ${classNameOf(base)}.${name} to belong to its object, got an accessor whose state every view shares`)
  }
  if (tryRead(view, key, name, settings) !== value) return
  // Nothing on the view holds what the accessor returns, so the view gets an accessor of its own that returns the copy.
  const read = (): unknown => {
    const shown: unknown = descriptor.get?.call(view)
    return shown === value ? copy : shown
  }
  Object.defineProperty(view, key, { ...descriptor, get: read, configurable: true })
  settings.debug(`${name} of a view is a copy that only the view's accessor returns: ${refusal ?? 'its setter keeps nothing'}`)
}

/** Says why it could not be set; undefined when it was. */
function trySet(object: object, key: PropertyKey, value: unknown): string | undefined {
  try {
    return Reflect.set(object, key, value) ? undefined : 'it is read-only'
  } catch (error) {
    return `its setter throws (${(error as Error).message})`
  }
}

/** Puts the view's components into a copy of whatever holds the base's: a plain object, a map, or an instance of a class. */
function scopeComponents(base: object, view: object, cloning: CloneOptions): void {
  const attribute = attributesOf(base).find(({ key }) => key === 'components')
  if (attribute === undefined) return
  const scoped = (components: unknown): unknown => {
    if (!isObject(components)) return components
    if (kindOf(components) !== 'instance') return cloneMutable(components, { ...cloning, seen: new Map(cloning.seen) })
    const descriptors = Object.getOwnPropertyDescriptors(components)
    for (const descriptor of Object.values(descriptors))
      if ('value' in descriptor) descriptor.value = ownVersion(descriptor.value, false, true, cloning)
    return Object.create(Object.getPrototypeOf(components) as object, descriptors)
  }
  const { descriptor } = attribute
  if ('value' in descriptor) {
    Object.defineProperty(view, 'components', { ...descriptor, value: scoped(descriptor.value), writable: true, configurable: true })
  } else {
    const read = (): unknown => scoped(descriptor.get?.call(view))
    Object.defineProperty(view, 'components', { ...descriptor, get: read, configurable: true })
  }
}

function setScheduler(base: object, view: object, scheduler: BaseAsyncScheduler): void {
  if (Reflect.get(view, 'scheduler') === scheduler) return
  const before: unknown = Reflect.get(base, 'scheduler')
  const accessor = attributesOf(base).find(({ key }) => key === 'scheduler')?.descriptor
  if (accessor?.set !== undefined) {
    Reflect.set(view, 'scheduler', scheduler)
    if (Reflect.get(base, 'scheduler') !== before) {
      Reflect.set(base, 'scheduler', before)
      throw new Error(`Expected ${classNameOf(base)}.scheduler to belong to its object, got an accessor whose state every view shares`)
    }
  } else if (accessor?.get !== undefined) {
    // A copy that the class made may have a scheduler of its own.
    if (Reflect.get(view, 'scheduler') !== before) return
    throw new Error(`Expected ${classNameOf(base)} to give its copies a scheduler of their own, got a read-only one that is shared`)
  } else {
    Object.defineProperty(view, 'scheduler', { value: scheduler, writable: true, configurable: true, enumerable: true })
  }
  if (Reflect.get(view, 'scheduler') !== scheduler)
    throw new Error(`Expected ${classNameOf(base)}.scheduler to be settable, got another one back`)
}

/** Every attribute that an object has: its own first, then those of its classes. */
function attributesOf(object: object): Attribute[] {
  const found = new Map<PropertyKey, Attribute>()
  for (let level: object | null = object; level !== null && level !== Object.prototype; level = Object.getPrototypeOf(level)) {
    for (const key of Reflect.ownKeys(level)) {
      const descriptor = Object.getOwnPropertyDescriptor(level, key)
      const isMethod = level !== object && typeof descriptor?.value === 'function'
      if (descriptor !== undefined && !isMethod && !found.has(key)) found.set(key, { key, name: String(key), descriptor })
    }
  }
  return [...found.values()]
}

function readAttribute(object: object, key: PropertyKey): unknown {
  return Reflect.get(object, key) ?? undefined
}

function tryRead(object: object, key: PropertyKey, name: string, settings: ViewSettings): unknown {
  try {
    return Reflect.get(object, key)
  } catch (error) {
    settings.debug(`${name} is left as it is: reading it throws (${(error as Error).message})`)
    return undefined
  }
}

function entriesOf(components: unknown): [string, unknown][] {
  if (components instanceof Map) return [...components].map(([name, value]) => [String(name), value])
  return isObject(components) && typeof components !== 'function' ? Object.entries(components) : []
}

function isObject(value: unknown): value is object {
  return (typeof value === 'object' && value !== null) || typeof value === 'function'
}
