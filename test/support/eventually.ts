import { setTimeout as pause } from 'node:timers/promises'

/**
 * Asks again and again until `holds` gives something true, and returns it.
 *
 * @throws after `withinMs`, saying what it waited for
 */
export async function eventually<T>(what: string, holds: () => T | Promise<T>, withinMs = 45_000): Promise<NonNullable<T>> {
  const deadline = Date.now() + withinMs
  for (let pauseMs = 5; ; pauseMs = Math.min(pauseMs * 1.2, 30)) {
    const value = await holds()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`Not within ${withinMs} ms: ${what}`)
    await pause(pauseMs)
  }
}
