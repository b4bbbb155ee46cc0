/** The names in Redis that `createKeys` gives, as Lua expressions, so that TypeScript and scripts take each name from one place. */
import { createKeys } from '@easel/contract'

/** Names in which parts between two NULs are variables of the script; the prefix is the variable `prefix`. */
export const names = createKeys('\0prefix\0')

/** A Lua variable as a part of a name: `names.job(variable('id'))`. */
export function variable(name: string): string {
  return `\0${name}\0`
}

export function toLua(name: string): string {
  return name
    .split('\0')
    .map((part, i) => (i % 2 === 0 ? `'${part}'` : part))
    .join(' .. ')
}
