import { asTillsyncError, goneTable, messageOf, TillsyncError } from '../../errors.ts'
import type { Fault } from '../../ports.ts'

/** Whether somebody else holds the lock; the same transaction works later. */
export function isBusy(thrown: unknown): boolean {
  const code = codeOf(thrown)
  if (code.startsWith('SQLITE_BUSY') || code.startsWith('SQLITE_LOCKED')) return true
  // better-sqlite3, where the host iterates over a statement of a shared connection
  return thrown instanceof TypeError && thrown.message.includes('busy executing')
}

/** A failure of SQLite by its result code (https://www.sqlite.org/rescode.html). */
export function classify(thrown: unknown, doing: string): TillsyncError {
  if (thrown instanceof TillsyncError) return thrown
  const code = codeOf(thrown)
  if (isBusy(thrown)) return new TillsyncError('ERR_BUSY', `The database is busy: ${doing}`, { retryable: true, cause: thrown })
  if (code === '' && isClosed(thrown)) {
    const hint = 'Close a connection that the library shares after `await stop()`, not before.'
    return new TillsyncError('ERR_DATABASE', `${doing}: the connection is closed`, { hint, cause: thrown })
  }
  if (code === '') return asTillsyncError(thrown, 'ERR_DATABASE', doing)
  const gone = isGone(thrown) ? goneTable(messageOf(thrown), doing, thrown) : undefined
  if (gone !== undefined) return gone
  return new TillsyncError('ERR_DATABASE', `${doing}: ${messageOf(thrown)}`, {
    retryable: code === 'SQLITE_FULL' || code.startsWith('SQLITE_IOERR'),
    hint: isLacking(thrown) ? LACKING : isGone(thrown) ? GONE : HINTS[code.replace(/^(SQLITE_[A-Z]+)_.*/, '$1')],
    context: { sqlite: code },
    cause: thrown,
  })
}

const WRITABLE = 'May we write to the file, and make others beside it, where SQLite has its -wal and -shm? Is `query_only` off?'
const HINTS: Readonly<Record<string, string>> = {
  SQLITE_FULL: 'The disk is full. Nothing is lost: what is touched is sealed when there is room.',
  SQLITE_READONLY: WRITABLE,
  SQLITE_CANTOPEN: WRITABLE,
}

/** Whether our connection lacks a function or a collation that the host's table needs. */
function isLacking(thrown: unknown): boolean {
  return codeOf(thrown) === 'SQLITE_ERROR' && /^(no such|unknown) (function|collation)/.test(messageOf(thrown))
}

const LACKING =
  "What the host's tables need must be there on the library's connection too: sqlite(() => { const db = new Database(file); db.function(…); return db })."

/** Whether a statement names a table that is not there any more. */
function isGone(thrown: unknown): boolean {
  return codeOf(thrown) === 'SQLITE_ERROR' && messageOf(thrown).startsWith('no such table')
}

const GONE = 'Who has removed the table?'

/** One root's tables can't be read, for want of a function or a collation; what else is wrong is wrong with all. */
export function notReadable(table: string, thrown: unknown): unknown {
  const cause = causeOf(thrown)
  if (!isLacking(cause)) return thrown
  return new TillsyncError('ERR_DATABASE', `\`${table}\` can't be read: ${messageOf(cause)}`, {
    hint: LACKING,
    context: { table, sqlite: codeOf(cause) },
    cause,
  })
}

/**
 * A statement that compiled and then raised while it read rows: an expression of the host's rules met a value that it can't take, or a function
 * of the host's threw, which comes as it was thrown.
 */
export function isRaised(thrown: unknown): boolean {
  if (thrown instanceof TillsyncError || isBusy(thrown)) return false
  const code = codeOf(thrown)
  return !code.startsWith('SQLITE_') || ['SQLITE_ERROR', 'SQLITE_MISMATCH', 'SQLITE_TOOBIG'].includes(code)
}

const FOREIGN_KEY = 'SQLITE_CONSTRAINT_FOREIGNKEY'
/** What a statement may fail with because of its rows, or of the host's triggers and functions; all other codes are the surroundings'. */
const REFUSED = /^SQLITE_(CONSTRAINT|MISMATCH|TOOBIG|ERROR)/
/** Causes of causes that are looked at. */
const DEPTH = 8

/** Whether a foreign key refuses it: SQLite does not say which. */
export function isForeignKey(thrown: unknown): boolean {
  const cause = causeOf(thrown)
  const code = codeOf(cause)
  // ON DELETE RESTRICT is a trigger of SQLite's own.
  return code === FOREIGN_KEY || (code === 'SQLITE_CONSTRAINT_TRIGGER' && (cause as Error).message === 'FOREIGN KEY constraint failed')
}

/** Whether a constraint of the host's refuses it, or a trigger. */
export function isConstraint(thrown: unknown): boolean {
  if (thrown instanceof TillsyncError && thrown.code === 'ERR_REFERENCE') return true
  return codeOf(causeOf(thrown)).startsWith('SQLITE_CONSTRAINT')
}

/** What SQLite says of the unique constraint that a statement would have broken: `items.barcode, items.plu`, or `index 'x'` for one over expressions. */
export function brokenUnique(thrown: unknown): string | undefined {
  const cause = causeOf(thrown)
  return /^SQLITE_CONSTRAINT_(UNIQUE|PRIMARYKEY|ROWID)$/.test(codeOf(cause)) ? textBehind(cause as Error) : undefined
}

/** What a table of the host's did not take of a mirror's rows; what is not the rows' fault stays as it is. */
export function refusal(thrown: unknown, table: string): unknown {
  const cause = causeOf(thrown)
  const code = codeOf(cause)
  if (cause instanceof TillsyncError || !(cause instanceof Error) || isBusy(cause)) return thrown
  if (code === '' ? cause instanceof TypeError : !REFUSED.test(code)) return thrown // a TypeError is the driver's
  if (isForeignKey(cause)) return unsatisfied(table, undefined, cause)
  const { what, ...names } = named(cause, code, table)
  return new TillsyncError('ERR_MIRROR', `\`${table}\` does not take a record: ${what}`, {
    hint: /^(SQLITE_ERROR)?$/.test(code)
      ? "A trigger, a function, a collation or a foreign key of the host's? What they need must be there on the library's connection too: sqlite(() => …)."
      : "The cause has SQLite's own text. Mend the record, the table, or convert by `map`.",
    context: { table, ...(code !== '' && { sqlite: code }), ...names },
    cause,
  })
}

/** Names are said, for they are the schema's; what a trigger or a function says may hold values. */
function named(cause: Error, code: string, table: string): { readonly what: string; readonly column?: string; readonly constraint?: string } {
  const text = textBehind(cause)
  const column = text.startsWith(`${table}.`) ? text.slice(table.length + 1) : undefined
  if (code === 'SQLITE_CONSTRAINT_NOTNULL') return { what: `a value for \`${column ?? text}\` is missing`, ...(column !== undefined && { column }) }
  if (code === 'SQLITE_CONSTRAINT_CHECK') return { what: `\`${text}\` is not satisfied`, constraint: text }
  if (brokenUnique(cause) !== undefined) return { what: `another record has its \`${text}\``, constraint: text }
  if (code === 'SQLITE_MISMATCH') return { what: 'its key is no whole number' }
  if (code === 'SQLITE_CONSTRAINT_TRIGGER') return { what: 'a trigger refuses it' }
  const strict = /^cannot store \w+ value in (\w+) column (.*)$/s.exec(cause.message)
  if (code !== 'SQLITE_CONSTRAINT_DATATYPE' || strict === null)
    return { what: code === '' ? "a function of the host's threw" : `SQLite refuses it (${code})` }
  const [, type, of = ''] = strict
  return { what: `\`${of}\` is ${type}, and STRICT`, ...(of.startsWith(`${table}.`) && { column: of.slice(table.length + 1) }) }
}

/** What stands behind "… constraint failed: ". */
function textBehind({ message }: Error): string {
  return message.slice(message.indexOf(': ') + 2)
}

/** A statement that does not compile, or a lookup that raised, is wrapped already. */
function causeOf(thrown: unknown): unknown {
  const isWrapped = thrown instanceof TillsyncError && ['ERR_DATABASE', 'ERR_FILTER'].includes(thrown.code) && thrown.cause !== undefined
  return isWrapped ? thrown.cause : thrown
}

/** A reference of which it is known which one; or only that there is one. */
export function unsatisfied(table: string, broken: { readonly table: string; readonly name: string } | undefined, cause?: unknown): TillsyncError {
  const which = broken === undefined ? '' : ` (\`${broken.name}\` of \`${broken.table}\`)`
  return new TillsyncError('ERR_REFERENCE', `\`${table}\`: a reference is not satisfied${which}`, {
    hint: 'What is referred to is not there, or what is to be removed is still referred to.',
    context: { table: broken?.table ?? table, ...(broken !== undefined && { constraint: broken.name }) },
    ...(cause !== undefined && { cause }),
  })
}

/** A commit that foreign keys have refused. */
export function unsatisfiedAtEnd(tables: readonly string[], cause: unknown): TillsyncError {
  return new TillsyncError(
    'ERR_REFERENCE',
    `A reference is not satisfied at the end of the transaction; it wrote ${tables.join(', ') || 'no mirrored table'}`,
    {
      hint: "SQLite does not say which one. A trigger of the host's, or an action of a foreign key, has removed what is referred to.",
      context: { tables },
      cause,
    },
  )
}

/** What a handler threw, by the first of SQLite's codes in it and its causes. What has none is the handler's own. */
export function faultOf(thrown: unknown): Fault | undefined {
  let at = thrown
  for (let depth = 0; depth < DEPTH && at instanceof Error; depth++) {
    if (isBusy(at) || isClosed(at)) return undefined
    const code = codeOf(at)
    if (at instanceof TillsyncError) {
      if (at.retryable || ['ERR_STOPPED', 'ERR_ABORTED', 'ERR_CONNECTION'].includes(at.code)) return undefined
      if (at.code === 'ERR_REFERENCE') return 'missing'
    } else if (brokenUnique(at) !== undefined) return 'taken'
    else if (code.startsWith('SQLITE_')) return isForeignKey(at) ? 'missing' : REFUSED.test(code) ? 'other' : undefined
    at = at.cause
  }
  return 'other'
}

/** better-sqlite3, where the connection was closed meanwhile */
function isClosed(error: unknown): boolean {
  return error instanceof TypeError && error.message.includes('connection is not open')
}

function codeOf(thrown: unknown): string {
  return thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : ''
}
