import { Kysely } from 'kysely'
import type { PoolClient } from 'pg'
import { TillsyncError } from '../../errors.ts'
import type { AnyTables } from '../../model.ts'
import type { Step } from '../../ports.ts'
import { ClientDriver, dialectOf } from './dialect.ts'
import { isAborted } from './errors.ts'
import { PLAN_AS_EVER, PLAN_BY_INDEX } from './planning.ts'

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
  await client.query(`SAVEPOINT sync_handler; ${PLAN_AS_EVER}`)
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
    await client.query(`RELEASE SAVEPOINT sync_handler; ${restore}; ${PLAN_BY_INDEX}`)
  } catch (error) {
    if (!isAborted(error)) throw new LostTransaction(ended(error), false)
    await client.query('ROLLBACK TO SAVEPOINT sync_handler')
    throw new TillsyncError('ERR_HANDLER', 'A statement of the handler failed, and the handler went on as if it had not', {
      hint: 'Let the error out. What may fail is run between SAVEPOINT and ROLLBACK TO SAVEPOINT.',
      cause: driver.failure,
    })
  }
  return returned
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
