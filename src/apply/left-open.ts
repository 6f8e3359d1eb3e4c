import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { OPEN_CLOSINGS } from './closing-tables.ts'
import { Handling, type Subscribed } from './handling.ts'
import { type Division, dividing } from './quarantine-division.ts'
import { lockRegister } from './register-row.ts'

/** What it needs of central. */
export interface LeftOpenOptions {
  readonly database: ApplyingDatabase
  readonly subscribed: Subscribed
  /** Runs it when there is a lane. */
  lane<T>(work: () => Promise<T>): Promise<T>
}

/**
 * Closings that were left open while many documents of a register were applied, one transaction after another: what each of them waits for is looked
 * for among all that waits, once behind the last of these.
 */
export class LeftOpen {
  private readonly options: LeftOpenOptions

  constructor(options: LeftOpenOptions) {
    this.options = options
  }

  /** The registers that have some at which nobody has looked: whoever had left them open has ended before he came to them. */
  async registers(): Promise<readonly number[]> {
    const { database, subscribed } = this.options
    const tables = [...subscribed.handlers].filter(([, all]) => all.some((handler) => handler.tables.includes(OPEN_CLOSINGS))).map(([table]) => table)
    if (tables.length === 0) return []
    const rows = await database.read(() =>
      query<{ register_id: number }>({
        sql: `SELECT DISTINCT register_id FROM ${database.qualify(OPEN_CLOSINGS.name)} WHERE table_name = ANY ($1::text[]) AND waits IS NULL`,
        parameters: [tables],
      }),
    )
    return rows.map(({ register_id }) => register_id)
  }

  /** Posts those of a register that are complete, in a transaction of its own. Answers of how many anything was posted. */
  settle(registerId: number): Promise<number> {
    const { database, subscribed, lane } = this.options
    const work = function* (division: Division): Work<number> {
      yield* lockRegister(database, registerId)
      return yield* postOpen(database, subscribed, registerId, division)
    }
    return lane(() => dividing(database, work))
  }
}

/** The same inside the caller's transaction, who has the register's lock. */
export function* postOpen(database: ApplyingDatabase, subscribed: Subscribed, registerId: number, division: Division): Work<number> {
  const handling = new Handling(database, subscribed, division)
  yield* handling.begin(registerId)
  yield* handling.finish()
  return handling.postings
}
