import type { Pool, PoolClient } from 'pg'
import { OWN_TYPES } from './parsers.ts'

/** How often it is looked while a transaction lasts: several times before PostgreSQL looks by itself, whose deadlock_timeout is a second. */
const LOOK_MS = 200
const ANSWER_MS = 1_000

/**
 * Who waits for whom, on from one connection; where that leads back to itself, what it waits in is cancelled, which no exception handler of PL/pgSQL takes for its own
 * (https://www.postgresql.org/docs/current/plpgsql-control-structures.html#PLPGSQL-ERROR-TRAPPING).
 */
const GIVE_WAY = `
  WITH RECURSIVE ahead(pid) AS (SELECT unnest(pg_catalog.pg_blocking_pids($1)) UNION SELECT unnest(pg_catalog.pg_blocking_pids(ahead.pid)) FROM ahead)
  SELECT pg_catalog.pg_cancel_backend($1) AS done FROM ahead WHERE pid = $1`

/** Ours was ended so that the host's was not: a deadlock, as PostgreSQL calls it. */
export class GivenWay extends Error {
  readonly code = '40P01'

  constructor() {
    super('It was in a deadlock with another transaction, which was let go on')
  }
}

/**
 * PostgreSQL ends whichever transaction of a deadlock has found out about it, which may be the host's. Ours can be run again: so it is looked, while one lasts, whether it is in
 * such a circle, and then it is ours that ends.
 */
export class DeadlockWatch {
  private isVictim = false
  private readonly pool: Pool
  private readonly client: PoolClient
  private readonly timer: NodeJS.Timeout
  private asking: Promise<void> | undefined
  private hasEnded = false

  constructor(pool: Pool, client: PoolClient) {
    this.pool = pool
    this.client = client
    this.timer = setInterval(() => void this.look(), LOOK_MS).unref()
  }

  /** Whether what the transaction waited in was cancelled: it has failed by a conflict, whatever was made of the error. The news of it may come later than that. */
  async gaveWay(): Promise<boolean> {
    await this.asking
    return this.isVictim
  }

  /** Behind it nothing is cancelled any more. */
  async end(): Promise<void> {
    this.hasEnded = true
    clearInterval(this.timer)
    await this.asking
  }

  /** By a connection that is to spare, so that nobody waits for one because of it. */
  private async look(): Promise<void> {
    const { totalCount, idleCount, options } = this.pool
    if (this.asking !== undefined || totalCount - idleCount >= (options.max ?? 10)) return
    const client = await this.pool.connect().catch(() => undefined)
    if (client === undefined) return
    let broken: Error | undefined
    if (!this.hasEnded && this.asking === undefined) {
      this.asking = this.ask(client).catch((error) => {
        broken = error // what can't be found out is left to PostgreSQL
      })
      await this.asking
      this.asking = undefined
    }
    client.release(broken)
  }

  /** Whoever ends the transaction waits for it: not for ever, where the connection is dead and nobody has said so. */
  private async ask(client: PoolClient): Promise<void> {
    const { processID } = this.client as PoolClient & { readonly processID?: number }
    const config = { text: GIVE_WAY, values: [processID], types: OWN_TYPES, query_timeout: ANSWER_MS }
    const { rows } = await client.query<{ done: boolean }>(config)
    if (rows[0]?.done === true) this.isVictim = true
  }
}
