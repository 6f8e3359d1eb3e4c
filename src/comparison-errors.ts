import type { ComparisonRefusal } from './comparison.ts'
import { TillsyncError, type TillsyncErrorCode } from './errors.ts'
import type { RegisterName } from './model.ts'

/** Why a comparison came to no end: the register's own word, or what is wrong with its answer. */
export type ComparisonFailure = ComparisonRefusal | 'malformed' | 'codec'

export function refusal(refused: ComparisonFailure, table: string, { location, register }: RegisterName): TillsyncError {
  const [code, what, hint] = REFUSALS[refused]
  return new TillsyncError(code, `Register ${register} at ${location} ${what}`, { hint, context: { location, register, table } })
}

const REFUSALS: Readonly<Record<ComparisonFailure, readonly [TillsyncErrorCode, string, string]>> = {
  unpublished: [
    'ERR_UNKNOWN_TABLE',
    'does not publish the table',
    'Compare root tables that its rules name; where its schema does not fit them any more, its status().problems says so.',
  ],
  order: [
    'ERR_VALUE',
    'keeps record ids in another order than central',
    'An SQLite database in UTF-16 does, where keys hold more than ASCII. till.reseal() and till.export() need no order.',
  ],
  size: ['ERR_TOO_LARGE', 'has more columns than a message holds', 'Raise `maxMessageBytes` at central.'],
  malformed: ['ERR_MESSAGE', 'gave an answer that does not fit the question', 'Is it a register of tillsync? Nothing has changed.'],
  codec: ['ERR_VERSION', 'writes records by another codec than central knows', 'Update the older side.'],
}

export function unanswered({ location, register }: RegisterName, what: string): TillsyncError {
  return new TillsyncError('ERR_UNANSWERED', `Register ${register} at ${location} ${what}`, {
    retryable: true,
    hint: 'Is the till on, and does it exchange? registers.list() says when it was last heard. One of an earlier version does not know the question.',
    context: { location, register },
  })
}
