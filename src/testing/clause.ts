import assert from 'node:assert/strict'
import { TillsyncError } from '../errors.ts'
import type { Link } from '../ports.ts'
import { decodeMessage } from '../transport/codec.ts'
import { expectCode } from './carrier.ts'
import { checkBooks } from './contract-books.ts'
import type { ContractScene } from './contract-scene.ts'
import type { ContractTill } from './contract-till.ts'
import { within } from './patience.ts'

/** One promise of a contract: what it says, and what shows that it is kept. */
export interface Clause {
  readonly name: string
  /** Where registers that are pulled make no such promise. */
  readonly onlyPush?: boolean
  act(scene: ContractScene): Promise<void>
}

const MAX_BYTES = 67_108_864
/** Runs that a till needs at most, once nothing stands in its way. */
const MOST_RUNS = 20

/** What ends it, as a code of the library; undefined where nothing does. */
export async function codeOf(what: Promise<unknown>): Promise<TillsyncError | undefined> {
  try {
    await what
    return undefined
  } catch (thrown) {
    return expectCode(thrown)
  }
}

/** One synchronization that must go well, in time. */
export function synchronize(scene: ContractScene, till: ContractTill): Promise<void> {
  return within(scene.options.withinMs, 'a synchronization', scene.synchronize(till))
}

/** One that meets faults: what it is ended by has a code, and changes nothing but what is there already. */
export function tryToSynchronize(scene: ContractScene, till: ContractTill): Promise<TillsyncError | undefined> {
  return within(scene.options.withinMs + scene.options.timeoutMs, 'a synchronization, however it ends', codeOf(scene.synchronize(till)))
}

/** Nothing stands in its way any more: it comes to an end, and the books are right. */
export async function calm(scene: ContractScene, till: ContractTill, after: string): Promise<void> {
  till.carrier.fates = []
  let last: TillsyncError | undefined
  for (let run = 0; run < MOST_RUNS; run++) {
    last = await tryToSynchronize(scene, till)
    const { pending, unsealed } = await till.register.status()
    if (last === undefined && pending === 0 && unsealed === 0) return checkBooks(scene, till, after)
  }
  throw new assert.AssertionError({ message: `${after}: it does not come to an end in ${MOST_RUNS} runs: ${last?.message}` })
}

/** What comes back to a message, by hand: whose id it answers, and what it was refused with, whether the link says so or the answer does. */
export async function exchangeByHand(
  link: Link,
  message: Uint8Array,
  signal: AbortSignal,
): Promise<{ readonly answers: string | undefined; readonly code: string | undefined }> {
  try {
    const { answers, error } = await decodeMessage(await link.exchange(message, { signal }), MAX_BYTES)
    return { answers, code: error?.code }
  } catch (thrown) {
    if (thrown instanceof TillsyncError) return { answers: undefined, code: thrown.code }
    throw thrown
  }
}

/** A number from 0 up to, not including, 1, the same again for the same seed (mulberry32). */
export function dice(seed: number): () => number {
  let state = seed | 0
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
