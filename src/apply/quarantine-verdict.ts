import { messageOf, TillsyncError } from '../errors.ts'
import type { ApplyingDatabase } from '../ports.ts'

/** Why a document can't be applied. */
export interface Verdict {
  readonly code: string
  readonly message: string
  readonly hint?: string | undefined
  /** 'missing': it refers to something that may come yet. */
  readonly cause: 'missing' | 'other'
  /** Another record has a value that is to be its alone: that one may give it up. */
  readonly isTaken?: true
}

/** What is kept of a text that somebody else wrote. */
const LONGEST = 2_000

/**
 * Why documents can't be applied, by what their handlers threw. A driver's own text is part of it: it stays at central, where the documents are.
 *
 * @throws what was thrown, where it is not the documents' fault; retryable
 */
export function verdictOf(thrown: unknown, database: ApplyingDatabase): Verdict {
  const fault = database.faultOf(thrown)
  if (fault === undefined || fault === 'cancelled') throw asRetryable(thrown)
  const error = thrown instanceof TillsyncError ? thrown : undefined
  const waits = fault === 'missing' || error?.context.waitsFor !== undefined
  const causes = [...textsOf(thrown)]
  return {
    code: error?.code ?? 'ERR_HANDLER',
    message: text(causes.join(': ')),
    hint: error?.hint === undefined ? undefined : text(error.hint),
    cause: waits ? 'missing' : 'other',
    ...(fault === 'taken' && { isTaken: true }),
  }
}

/** A failure that is not the documents': the register tries again. */
export function asRetryable(thrown: unknown, what = 'Applying'): TillsyncError {
  if (thrown instanceof TillsyncError && thrown.retryable) return thrown
  return new TillsyncError('ERR_DATABASE', `${what} failed, by no fault of a document`, {
    retryable: true,
    hint: "The register tries again; central's event `refused` has the cause.",
    cause: thrown,
  })
}

function* textsOf(thrown: unknown): Generator<string> {
  let at: unknown = thrown
  let last = ''
  for (let depth = 0; depth < 4 && at !== undefined; depth++) {
    const message = safely(at)
    if (message !== '' && !last.includes(message)) yield message
    last = message
    at = at instanceof Error ? at.cause : undefined
  }
}

/** What was thrown may be anything, with a `message` that throws itself. */
function safely(thrown: unknown): string {
  try {
    return String(messageOf(thrown))
  } catch {
    return 'Something was thrown that has no text'
  }
}

/** As PostgreSQL takes it. */
export function text(value: string): string {
  return value.replaceAll('\0', '\uFFFD').slice(0, LONGEST)
}
