import { Kysely } from 'kysely'
import type { PoolClient } from 'pg'
import { TillsyncError } from '../../errors.ts'
import type { AnyTables } from '../../model.ts'
import type { Step } from '../../work.ts'
import { ClientDriver, dialectOf } from './dialect.ts'
import { faultOf, isAborted, isEnded } from './errors.ts'
import { OWN_TYPES } from './parsers.ts'
import { PLAN_AS_EVER, PLAN_BY_INDEX } from './planning.ts'
import { literal } from './triggers.ts'

/** The host's function has lost the transaction: the connection can't be used any more. */
export class LostTransaction extends Error {
  readonly reason: TillsyncError
  /** Whether PostgreSQL still works on a statement of it. */
  readonly isRunning: boolean

  constructor(reason: TillsyncError, isRunning: boolean) {
    super(reason.message)
    this.reason = reason
    this.isRunning = isRunning
  }
}

/**
 * Runs the host's own code inside the transaction, between two savepoints, so that what it leaves behind is known: a failed statement whose error it
 * swallowed, a transaction that it ended, settings that it changed.
 *
 * @param restore sets what statements of the library are read under
 * @throws LostTransaction where it takes too long, or has ended the transaction
 */
export async function callHost(client: PoolClient, { call, timeoutMs }: Step & { kind: 'call' }, restore: string): Promise<unknown> {
  const before = await readKept(client)
  const driver = new ClientDriver(client)
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    if (timeoutMs !== undefined) timer = setTimeout(() => reject(new LostTransaction(tooLong(timeoutMs), driver.isRunning)), timeoutMs)
  })
  let returned: unknown
  try {
    const work = (async () => {
      const value = await call(new Kysely<AnyTables>({ dialect: dialectOf(driver) }))
      await driver.settled()
      return value
    })()
    returned = await Promise.race([work, late])
  } catch (error) {
    driver.end()
    if (!(error instanceof LostTransaction)) await client.query(`ROLLBACK TO SAVEPOINT sync_handler; ${restore}`).catch(() => undefined)
    throw error
  } finally {
    clearTimeout(timer)
  }
  driver.end()
  try {
    await client.query(`RELEASE SAVEPOINT sync_handler; ${setKept(before)}; ${restore}; ${PLAN_BY_INDEX}`)
  } catch (error) {
    // A connection that breaks off here, or a statement that somebody cancels, is not the handler's doing.
    if (isElsewhere(error)) throw error
    if (!isAborted(error)) throw new LostTransaction(ended(error), false)
    await client.query('ROLLBACK TO SAVEPOINT sync_handler')
    throw new TillsyncError('ERR_HANDLER', 'A statement of the handler failed, and the handler went on as if it had not', {
      hint: 'Let the error out. What may fail is run between SAVEPOINT and ROLLBACK TO SAVEPOINT.',
      cause: driver.failure,
    })
  }
  return returned
}

function isElsewhere(error: unknown): boolean {
  const fault = faultOf(error)
  return !isAborted(error) && !isEnded(error) && (fault === undefined || fault === 'cancelled')
}

/** What a handler may have set for its own statements, and would mean something to all that come behind it: other handlers, mirrors, the library. */
const KEPT = [
  'role',
  'search_path',
  'session_replication_role',
  'row_security',
  'statement_timeout',
  'lock_timeout',
  'transaction_timeout',
  'idle_in_transaction_session_timeout',
]
/** One that this version of PostgreSQL does not have is NULL. */
const READ_KEPT = `SELECT name, pg_catalog.current_setting(name, true) AS value FROM unnest(ARRAY[${KEPT.map(literal).join(', ')}]) AS s(name)`

interface Setting {
  readonly name: string
  readonly value: string | null
}

/** Begins the savepoint; returns what is set before the host's code runs. */
async function readKept(client: PoolClient): Promise<readonly Setting[]> {
  const results: unknown = await client.query({ text: `SAVEPOINT sync_handler; ${PLAN_AS_EVER}; ${READ_KEPT}`, types: OWN_TYPES })
  return (results as readonly { readonly rows: readonly Setting[] }[]).at(-1)?.rows ?? []
}

/** Only what is another one now: a role may be denied to set what it has. */
function setKept(settings: readonly Setting[]): string {
  const rows = settings.flatMap(({ name, value }) => (value === null ? [] : [`(${literal(name)}, ${literal(value)})`]))
  return `SELECT pg_catalog.set_config(name, value, true) FROM (VALUES ${rows.join(', ')}) AS s(name, value)
          WHERE pg_catalog.current_setting(name) IS DISTINCT FROM value`
}

function tooLong(timeoutMs: number): TillsyncError {
  return new TillsyncError('ERR_TIMEOUT', `A handler has not ended after ${timeoutMs} ms; its transaction was broken off`, {
    hint: 'Effects outside the database belong into `once`. `handlerTimeoutMs` is how long a handler may take.',
    context: { timeoutMs },
  })
}

function ended(cause: unknown): TillsyncError {
  return new TillsyncError('ERR_HANDLER', 'A handler has ended the transaction of the batch, or released its savepoint', {
    hint: "The transaction is the library's to end.",
    cause,
  })
}
