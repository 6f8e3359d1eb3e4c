import type { Test } from 'tap'
import { TillsyncError, type TillsyncErrorCode } from '../../src/index.ts'

/** What it throws or rejects with: a TillsyncError of this code that says what to do about it. */
export async function refused(t: Test, what: () => unknown, code: TillsyncErrorCode, message: string = code): Promise<TillsyncError | undefined> {
  try {
    await what()
  } catch (error) {
    if (!(error instanceof TillsyncError)) {
      t.fail(`${message}: threw something else`, { found: String(error) })
      return undefined
    }
    t.equal(error.code, code, message)
    t.match(error.hint, /\w/, `${message}: with a hint`)
    return error
  }
  t.fail(`${message}: nothing was thrown`)
  return undefined
}
