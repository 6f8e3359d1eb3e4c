import { TillsyncError } from '../errors.ts'
import type { SentBack, TakenBack } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { orphanById } from './orphans.ts'
import { ORPHANS } from './tables.ts'

/**
 * Offers an orphan to its register from the next exchange on, inside the caller's transaction.
 *
 * @throws ERR_ORPHAN where there is none by this id, or it is settled; ERR_TOO_LARGE where no message holds it
 */
export function* offerBack(database: ApplyingDatabase, id: number, maxBytes: number): Work<void> {
  const sent = yield* orphanById(database, id)
  const bytes = sent.records.reduce((sum, { recordId, record }) => sum + Buffer.byteLength(recordId) + Buffer.byteLength(record), 0)
  if (bytes > maxBytes) {
    throw new TillsyncError('ERR_TOO_LARGE', `Orphan ${id} has ${bytes} bytes, a message to a register holds ${maxBytes}`, {
      hint: 'Enter it again at the till, and withdraw the orphan.',
      context: { id, bytes },
    })
  }
  yield* query({
    sql: `UPDATE ${database.qualify(ORPHANS.name)} SET back = 'offered', back_code = NULL, back_message = NULL WHERE orphan_id = $1`,
    parameters: [id],
  })
}

/** Of a register's row `r`, as a column: the orphan that is offered to it. */
export function offeredColumn(database: ApplyingDatabase): string {
  return `(SELECT orphan_id FROM ${database.qualify(ORPHANS.name)} o
           WHERE o.register_id = r.register_id AND o.state = 'orphaned' AND o.back = 'offered' ORDER BY orphan_id LIMIT 1)`
}

/** What is offered; undefined where nobody can say any more what it was, which keeps nothing else from its register. */
export function* offered(database: ApplyingDatabase, id: number): Work<SentBack | undefined> {
  try {
    return yield* orphanById(database, id)
  } catch (error) {
    if (error instanceof TillsyncError && error.code === 'ERR_ORPHAN') return undefined
    throw error
  }
}

/** What the register says of what it was offered: it is not offered any more. Whether it has come again is known when it does. */
export function* hearTaken(database: ApplyingDatabase, registerId: number, { id, refused }: TakenBack): Work<void> {
  yield* query({
    sql: `UPDATE ${database.qualify(ORPHANS.name)} SET back = $3, back_code = $4, back_message = $5 WHERE orphan_id = $1 AND register_id = $2 AND back = 'offered'`,
    parameters: [id, registerId, refused === undefined ? 'taken' : 'refused', refused?.code ?? null, refused?.message ?? null],
  })
}
