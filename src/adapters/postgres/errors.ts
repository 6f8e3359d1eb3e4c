import { asTillsyncError, goneTable, messageOf, TillsyncError } from '../../errors.ts'
import type { Fault } from '../../ports.ts'

/** Another transaction was in the way; the same one works when it is tried again. */
const CONFLICTS = ['40001', '40P01']
/** Somebody holds the lock that NOWAIT or a timeout would not wait for. */
const LOCKED = ['55P03']
/** Shutdown, crash, too many connections, no room, no connection: class 08, 53, 57; a transaction that was idle or took too long: the connection is gone. */
const AWAY = /^(08|53|57P|25P0[34])/

export function isConflict(thrown: unknown): boolean {
  return CONFLICTS.includes(sqlState(thrown))
}

/** Whether somebody else holds the lock that was asked for; the same transaction works later. */
export function isLocked(thrown: unknown): boolean {
  return LOCKED.includes(sqlState(thrown))
}

/** Whether a statement failed only because one before it in the transaction had. */
export function isAborted(thrown: unknown): boolean {
  return sqlState(thrown) === '25P02'
}

/** Whether a savepoint is not there any more, or the transaction around it. */
export function isEnded(thrown: unknown): boolean {
  return ['25P01', '3B001'].includes(sqlState(thrown))
}

/** Whether a prepared statement is not on this connection, or is though nobody here has prepared it. */
export function isPlanLost(thrown: unknown): boolean {
  return ['26000', '42P05'].includes(sqlState(thrown))
}

/** Whether a table that a statement names is not there, or is no table any more. */
export function isUnknown(thrown: unknown): boolean {
  return ['42P01', '42809', '3F000'].includes(sqlState(thrown))
}

/**
 * Whether a standby, as before it is promoted, would not begin a transaction that may write. It says so by the code of whatever it does not support: to be told by who in it does
 * (https://www.postgresql.org/docs/current/hot-standby.html).
 */
function isStandby(thrown: unknown): boolean {
  return sqlState(thrown) === '0A000' && (thrown as { readonly routine?: string }).routine === 'call_bool_check_hook'
}

/** Whether the whole transaction has failed with the statement: no connection, a conflict, a lock that was not to be had. */
export function isFinal(thrown: unknown): boolean {
  const state = sqlState(thrown)
  return state === '' || AWAY.test(state) || isConflict(thrown) || isLocked(thrown) || isStandby(thrown)
}

/**
 * A statement that was well formed and raised while it read rows: an expression of the host's rules met a value that it can't
 * take, or a function of the host's threw, by whatever code. Not what is wrong with the statement or the session.
 */
export function isRaised(thrown: unknown): boolean {
  const state = sqlState(thrown)
  if (/^(3F|42)/.test(state)) return isBesideStatement(thrown)
  return state !== '' && !/^(0|25|26|3[4D])/.test(state) && state !== CANCELLED && !SURROUNDINGS.test(state)
}

/**
 * Of what is wrong with a statement it is said where in it, but for rights. Otherwise a value of it (`regclass`, `regtype`) names what is not there, or a function of the host's does, or reads what it
 * may not: then it is said in which one.
 */
function isBesideStatement(thrown: unknown): boolean {
  const { position, where } = thrown as { readonly position?: string; readonly where?: string }
  return position === undefined && (where !== undefined || !isDenied(thrown))
}

export const DENIED = '42501'

/** Whether the role may not do it. */
export function isDenied(thrown: unknown): boolean {
  return sqlState(thrown) === DENIED
}

const READ_ONLY = '25006'

export const OWNERSHIP =
  'The role of the pool must own the tables that are published, or be a member of the role that does, and may create tables and functions in their schema.'

/** What is wrong with how the pool was made, or with the role. */
const HINTS: Readonly<Record<string, string>> = {
  '28000': 'May the role log in, and does pg_hba.conf let it in from here?',
  '28P01': 'Check user and password of the pool.',
  '3D000': 'Create the database, or name another one in the pool.',
  '3F000': 'Create the schema first: it is that of the tables; postgres(pool, { schema }) names it.',
  '42P01': 'Who has removed the table?',
  [READ_ONLY]: 'A standby can only be read: connect the pool to the primary.',
  [DENIED]: OWNERSHIP,
}

/** A failure of PostgreSQL by its SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html). */
export function classify(thrown: unknown, doing: string): TillsyncError {
  if (thrown instanceof TillsyncError) return thrown
  const state = sqlState(thrown)
  if (LOCKED.includes(state)) return new TillsyncError('ERR_BUSY', `${doing}: another transaction holds the lock`, { retryable: true, cause: thrown })
  if (state === '' && isAway(thrown))
    return new TillsyncError('ERR_DATABASE', `${doing}: ${messageOf(thrown)}`, {
      retryable: true,
      hint: 'Is PostgreSQL running, and reached?',
      cause: thrown,
    })
  if (state === '') return asTillsyncError(thrown, 'ERR_DATABASE', doing)
  const gone = state === '42P01' ? goneTable(messageOf(thrown), doing, thrown) : undefined
  if (gone !== undefined) return gone
  const standby = isStandby(thrown)
  const retryable = isConflict(thrown) || AWAY.test(state) || standby
  return new TillsyncError('ERR_DATABASE', `${doing}: ${messageOf(thrown)}`, {
    retryable,
    hint: HINTS[standby ? READ_ONLY : state],
    context: { sqlState: state },
    cause: thrown,
  })
}

/** Data that a statement could not take: a value of the wrong type, a constraint of the host's (classes 21, 22, 23). */
export function isRefused(thrown: unknown): boolean {
  return /^2[123]/.test(sqlState(thrown))
}

/** Fields of PostgreSQL's errors that are names, never values. */
interface Named {
  readonly constraint?: string
  readonly table?: string
  readonly column?: string
}

const FOREIGN_KEY = '23503'
/** A unique constraint or index, an exclusion constraint. */
const UNIQUE = ['23505', '23P01']

/** The unique constraint or index, or the exclusion constraint, that a statement would have broken. */
export function brokenUnique(thrown: unknown): string | undefined {
  const cause = thrown instanceof TillsyncError ? thrown.cause : thrown
  return UNIQUE.includes(sqlState(cause)) ? (cause as Named).constraint : undefined
}

/**
 * What a table of the host's did not take of a mirror's rows; what is not the rows' fault stays as it is. Texts of PostgreSQL may hold values, names don't.
 */
export function refusal(thrown: unknown, name: string): unknown {
  const state = sqlState(thrown)
  if (thrown instanceof TillsyncError || !/^(2[1237]|428C9|42703|42704|42804|42846|P0001|44000)/.test(state)) return thrown
  const { constraint, table = name, column } = thrown as Named
  const context = { table, sqlState: state, ...(constraint !== undefined && { constraint }), ...(column !== undefined && { column }) }
  const named = constraint === undefined ? `SQLSTATE ${state}` : `\`${constraint}\``
  if (state === FOREIGN_KEY) {
    return new TillsyncError('ERR_REFERENCE', `\`${name}\`: a reference is not satisfied (${named} of \`${table}\`)`, {
      hint: 'What is referred to is not at central, or what is to be removed is still referred to.',
      context,
      cause: thrown,
    })
  }
  const what =
    column !== undefined
      ? `a value for \`${column}\` is missing`
      : constraint !== undefined
        ? `${named} is not satisfied`
        : `${kindOf(thrown as Error)} (${named})`
  return new TillsyncError('ERR_MIRROR', `\`${name}\` does not take a record: ${what}`, {
    hint: UNIQUE.includes(state)
      ? 'Another record has the unique value; a DEFERRABLE constraint lets records exchange theirs.'
      : "The cause has PostgreSQL's own text. Mend the record, the table, or convert by `map`.",
    context,
    cause: thrown,
  })
}

/** Up to where a value may begin: "invalid input syntax for type integer". */
function kindOf({ message }: Error): string {
  const [text = ''] = message.split(/[:"]/)
  return text.trim().length > 10 ? text.trim() : 'a value does not fit'
}

/** No connection, or none any more: a code of the system's, or one of the errors for which `pg` has no code. */
function isAway(thrown: unknown): boolean {
  if (!(thrown instanceof Error)) return false
  if ('code' in thrown && /^E(CONN|PIPE|TIMEDOUT|HOST|NET|AI_)/.test(String(thrown.code))) return true
  return /^(Connection terminated|Client has encountered a connection error|timeout exceeded when trying to connect|Client was closed)/.test(
    thrown.message,
  )
}

/** A failure of the whole transaction, whatever the statement was: to be told from a statement's own. */
export function asFinal(thrown: unknown): unknown {
  return thrown instanceof TillsyncError || !(isFinal(thrown) && (sqlState(thrown) !== '' || isAway(thrown)))
    ? thrown
    : classify(thrown, 'A transaction failed')
}

/**
 * The database's own trouble or its operator's, whatever the statement was: no connection, another transaction's end, no room, a server that only reads, rights to
 * connect, an internal error. Among classes 25 and 55 only these. https://www.postgresql.org/docs/current/errcodes-appendix.html
 */
const SURROUNDINGS = /^(08|25006|25P0[134]|28|3D|40|53|55006|55P0[23]|57|58|72|F0|HV|XX)/
const CANCELLED = '57014'
/** Causes of causes that are looked at. */
const DEPTH = 8

/** What a handler threw, by the first SQLSTATE in it and its causes. What has none is the handler's own. */
export function faultOf(thrown: unknown): Fault | undefined {
  for (const error of causesOf(thrown)) {
    if (error instanceof TillsyncError && error.retryable) return undefined
    const state = sqlState(error)
    if (state === CANCELLED) return 'cancelled'
    if (UNIQUE.includes(state)) return 'taken'
    if (state !== '') return SURROUNDINGS.test(state) ? undefined : state === FOREIGN_KEY ? 'missing' : 'other'
    if (isAway(error)) return undefined
  }
  return 'other'
}

/** An error and what caused it, the outermost first. */
export function* causesOf(thrown: unknown): Generator<Error> {
  let at = thrown
  for (let depth = 0; depth < DEPTH && at instanceof Error; depth++) {
    yield at
    at = at.cause
  }
}

/** Empty where it is no error of PostgreSQL's; the system's have codes that look alike, as EPIPE. */
function sqlState(thrown: unknown): string {
  if (!(thrown instanceof Error) || !('code' in thrown) || 'syscall' in thrown || 'errno' in thrown) return ''
  return typeof thrown.code === 'string' && /^[0-9A-Z]{5}$/.test(thrown.code) ? thrown.code : ''
}
