import assert from 'node:assert/strict'
import { setTimeout as pause } from 'node:timers/promises'

/** @throws where it is not settled in time: a link that waits for ever holds its register up for as long */
export async function within<T>(ms: number, what: string, promise: Promise<T>): Promise<T> {
  const late = new AbortController()
  const deadline = pause(ms, undefined, { signal: late.signal }).then(() => {
    throw new assert.AssertionError({ message: `Not within ${ms} ms: ${what}` })
  })
  try {
    return await Promise.race([promise, deadline])
  } finally {
    late.abort()
    deadline.catch(() => undefined)
  }
}

/** Asks again and again. @throws where it does not come to hold in time */
export async function eventually(ms: number, what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + ms
  while (!(await holds())) {
    if (performance.now() > deadline) throw new assert.AssertionError({ message: `Not within ${ms} ms: ${what}` })
    await pause(10)
  }
}
