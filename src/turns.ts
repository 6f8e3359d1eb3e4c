import { setImmediate } from 'node:timers/promises'

let last: Promise<unknown> = Promise.resolve()

/**
 * Resolves in a turn of the event loop that nobody else is given. Immediates that are set at the same time run in the same turn:
 * sealing, sending and pruning, each a few milliseconds, would together hold up the host for their sum.
 */
export function turn(): Promise<void> {
  const mine = last.then(() => setImmediate())
  last = mine
  return mine
}
