import { expect, test } from 'vitest'
import { parsePreferWait } from './prefer-wait.ts'

test('the wait in a Prefer header is read in every form that RFC 7240 allows, and capped', () => {
  const read = (header?: string): number | undefined => parsePreferWait(header, 60)
  for (const header of [
    'wait=10',
    'Wait = 10',
    'wait="10"',
    'respond-async, wait=10',
    'wait=10; foo="a,b;c"',
    'x="wait=3,wait=4", wait=10',
  ]) {
    expect(read(header)).toBe(10)
  }
  expect(read('wait=10, wait=20')).toBe(10)
  expect(read('wait=100000')).toBe(60)
  expect(read(`wait=${'9'.repeat(400)}`)).toBe(60)
  expect(read('wait=0')).toBe(0)
  expect(read('wait')).toBe(60)
  expect(read('respond-async, wait')).toBe(60)
})

test('a wait that is not a number of seconds is ignored, and so is a header without one', () => {
  for (const header of [
    undefined,
    '',
    'respond-async',
    'wait=ten',
    'wait=-1',
    'wait=1.5',
    'wait=1e3',
    'x=wait',
    'waiting=3',
    ',,;',
    '"wait=3"',
    'x="\\", wait=3',
  ]) {
    expect(parsePreferWait(header, 60)).toBeUndefined()
  }
})

test('the time to read a header grows only with its length, whatever is in it', () => {
  // If the time grew with the square of the length, these would take hours.
  const length = 2_000_000
  for (const hostile of ['"\\', '"', '\\"', 'a="b;', ';', ',', 'wait', '=']) {
    expect(parsePreferWait(`x; ${hostile.repeat(length / hostile.length)}`, 60)).toBeUndefined()
  }
})
