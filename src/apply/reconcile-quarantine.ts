import { query, type Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import { QUARANTINE_ROW } from './quarantine-row.ts'
import { type RowOfRegister, readWaiting } from './quarantine-versions.ts'
import { namesDay, type ReconciledDay } from './reconcile-day.ts'
import type { ReconciledDocument } from './reconcile-page.ts'
import { touches } from './reconcile-sums.ts'
import { QUARANTINE } from './tables.ts'

/** Names documents that wait in quarantine where the version that waits, or what an older one has posted, is of the day. */
export function* reconcileWaiting(day: ReconciledDay, documents: readonly ReconciledDocument[]): Work<void> {
  const waiting = new Map(
    documents.flatMap((document) => (document.standing.quarantineId === undefined ? [] : [[document.standing.quarantineId, document]])),
  )
  if (waiting.size === 0) return
  const rows = yield* query<RowOfRegister>({
    sql: `SELECT q.register_id, ${QUARANTINE_ROW} FROM ${day.database.qualify(QUARANTINE.name)} q WHERE q.quarantine_id = ANY ($1::bigint[]) ORDER BY q.quarantine_id`,
    parameters: [[...waiting.keys()]],
  })
  const versions = yield* readWaiting(day.database, rows)
  for (const [n, { quarantine_id }] of rows.entries()) {
    const document = waiting.get(quarantine_id) as ReconciledDocument
    const { version } = versions[n] ?? {}
    const isPosted = document.ledgers.some((ledger) => touches(document.postedTo(ledger).all, day.isOn))
    if (isPosted || (version !== undefined && isOfDay(day, document, version)))
      day.differs(document, { why: 'quarantined', quarantineId: quarantine_id }, [])
  }
}

/** By what its handlers make of it; where they can make nothing of it, which may be why it waits, by whether its root record names the day. */
function isOfDay(day: ReconciledDay, { life, origin }: ReconciledDocument, version: AppliedDocument): boolean {
  if (version.removed) return false
  const dates = datesOf(day, life.table, version, origin)
  return dates.length === 0 ? namesDay(version, day.businessDate) : dates.includes(day.businessDate)
}

function datesOf({ plan }: ReconciledDay, table: string, version: AppliedDocument, origin: ReconciledDocument['origin']): readonly unknown[] {
  const closings = plan.closings.get(table)
  const receipts = [...plan.closings.values()].flatMap((wants) => (wants.receipts?.table === table ? [wants.receipts] : []))
  const ways: readonly (() => readonly unknown[])[] = [
    ...receipts.map(({ dateOf }) => () => [dateOf(version.again())]),
    ...(closings ? [() => [closings.wanted(version.again(), origin).closing?.businessDate]] : []),
    ...(plan.movements.get(table) ?? []).map(
      (wants) => () => [...wants.wanted(version.again(), origin).values()].map((sums) => sums.dimension.businessDate),
    ),
  ]
  return ways.flatMap((dates) => {
    try {
      return dates().filter((date) => date !== undefined)
    } catch {
      return []
    }
  })
}
