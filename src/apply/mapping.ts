import { TillsyncError, type TillsyncErrorCode } from '../errors.ts'
import type { AppliedDocument } from './document-set.ts'

/**
 * What the host's function says of a document, as `read` takes it. What either throws is said with the document that it was about.
 *
 * @param name the host's function, for messages
 * @param code of what is no value of its kind
 */
export function mapped<T>(document: AppliedDocument, name: string, code: TillsyncErrorCode, map: () => unknown, read: (value: unknown) => T): T {
  let value: unknown
  try {
    value = map()
    return read(value)
  } catch (error) {
    hush(value)
    // What the host's function says may hold values of rows; it stays at central, as the cause.
    throw about(
      document,
      code,
      error instanceof TillsyncError
        ? error
        : new TillsyncError('ERR_HANDLER', `The function of ${name} threw`, { hint: 'The cause says what; mend the function.', cause: error }),
    )
  }
}

/** Says which document it was; its record id is a name, not a value of the row. */
function about({ table, recordId }: AppliedDocument, code: TillsyncErrorCode, error: TillsyncError): TillsyncError {
  return new TillsyncError(error.code === 'ERR_VALUE' ? code : error.code, error.message, {
    hint: error.hint,
    context: { ...error.context, table, recordId },
    cause: error.cause ?? error,
  })
}

/** What came instead of what was expected; never the value itself. */
export function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (value instanceof Promise) return 'a Promise'
  if (typeof value === 'number') return Number.isFinite(value) ? 'a number' : `${value}`
  return Array.isArray(value) ? 'a list' : typeof value
}

/** How deep promises are looked for: a list of objects. */
const DEPTH = 2

/** A mapping is a pure function; one that is async is refused, and what its promises reject with later must not end the process. */
export function hush(value: unknown, depth = 0): void {
  if (value instanceof Promise) value.catch(() => undefined)
  else if (typeof value === 'object' && value !== null && depth < DEPTH) {
    for (const name of Object.keys(value)) {
      try {
        hush((value as Record<string, unknown>)[name], depth + 1)
      } catch {
        // a getter that throws holds no promise
      }
    }
  }
}
