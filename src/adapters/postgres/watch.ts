import { setTimeout as sleep } from 'node:timers/promises'
import type { Pool } from 'pg'
import type { Statement } from '../../work.ts'

/** How often the server looks whether anything was touched. */
const LOOK_MS = 15
/** How long it looks for us in one go: below what anybody logs as a slow statement. */
const GO_MS = 195
/** How often it is looked where the pool has no connection to spare. */
const POLL_MS = 100
/** A pool of fewer has none. */
const LEAST_CONNECTIONS = 3
/** Pauses after something was found: who seals needs a moment, and where nothing can be sealed it would be found for ever. */
const PAUSES_MS = [20, 20, 40, 70, 100] as const
/** How often the listener is called though nothing was touched: a change of the schema leaves no touch. */
const ANYWAY_MS = 5_000

export interface Watched {
  readonly pool: Pool
  /** A SELECT that finds a row where there may be something new; its parameters are numbers, or lists of such. */
  poll(): Statement
  /** The database did not answer. */
  onLost(): void
  /** What a transaction begins with that the host's time limits, which are for its users, are not to end. */
  readonly unbounded: string
}

/**
 * Calls `listener` soon after a commit that touched something. A NOTIFY in a trigger would hold up commits, and the pool may be a pooler's, where LISTEN
 * does not work: so it is asked, and where the pool has connections to spare, the server does the asking. Returns the end of it.
 */
export function watchTouches({ pool, poll, onLost, unbounded }: Watched, listener: () => void): () => void {
  const ending = new AbortController()
  const { signal } = ending
  const spares = (pool.options.max ?? 10) >= LEAST_CONNECTIONS
  const watch = async (): Promise<void> => {
    let called = performance.now()
    for (let found = 0; !signal.aborted; ) {
      const began = performance.now()
      const touched = await look().catch(() => {
        onLost()
        return true // who seals meets the same failure, and says so
      })
      if (signal.aborted) return
      const atOnce = performance.now() - began < LOOK_MS
      found = !touched ? 0 : atOnce ? found + 1 : 1
      if (touched || performance.now() - called >= ANYWAY_MS) {
        called = performance.now()
        listener()
      }
      if (found > 0) await sleep(PAUSES_MS[Math.min(found, PAUSES_MS.length) - 1] as number)
      else if (!spares || atOnce) await sleep(POLL_MS)
    }
  }

  async function look(): Promise<boolean> {
    const isSpare = spares && pool.waitingCount === 0
    const { sql, parameters } = poll()
    const client = await pool.connect()
    let broken: Error | undefined
    try {
      const found = sql.replace(/\$(\d+)/g, (_, n) => `'${String(parameters[Number(n) - 1]).replace(/[^\d{},]/g, '')}'`)
      const looks = `DO $$ BEGIN
          FOR look IN 1 .. ${Math.floor(GO_MS / LOOK_MS)} LOOP
            IF EXISTS (${found}) THEN EXIT; END IF;
            PERFORM pg_catalog.pg_sleep(${LOOK_MS / 1_000});
          END LOOP;
        END $$;`
      // Each look in a snapshot of its own, whatever the host's are: a serializable one could end a sale.
      const results = await client.query(`BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; ${unbounded}; ${isSpare ? looks : ''} ${found}; COMMIT`)
      return (results as unknown as { rows: unknown[] }[]).some(({ rows }) => rows.length > 0)
    } catch (error) {
      broken = error as Error // the pool ends it, and with it what it had begun
      throw error
    } finally {
      client.release(broken)
    }
  }

  void watch()
  return () => ending.abort()
}
