import { setTimeout as pause } from 'node:timers/promises'
import type { Register } from '../../src/index.ts'

/** What the promise comes to; meanwhile the till exchanges as often as it can. */
export async function driven<T>(till: Pick<Register, 'synchronize'>, promise: Promise<T>): Promise<T> {
  let isOver = false
  const over = () => {
    isOver = true
  }
  promise.then(over, over)
  while (!isOver) {
    await till.synchronize()
    await pause(5)
  }
  return promise
}
