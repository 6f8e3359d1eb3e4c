import { query, type Work } from '../ports.ts'
import { decodeRecord } from '../record.ts'
import { placeOf, type ReceiptsRule } from './closing-receipts.ts'
import type { OpenClosing } from './closing-settlement.ts'
import { CLOSING_RECEIPTS } from './closing-tables.ts'
import type { KnownRange } from './closings.ts'
import type { FinishContext } from './finish.ts'
import { ARCHIVE, QUARANTINE } from './tables.ts'

/**
 * Why a closing is not posted yet. 'quarantined': receipts of its range are not applied, by record id. 'taken': another closing has receipts of its range. 'totals': those of the
 * till are not the sums of its receipts. 'sums': they are beyond numeric(18, 6).
 */
export type Waits =
  | { readonly why: 'taken'; readonly table: string; readonly recordId: string }
  | { readonly why: 'quarantined'; readonly receipts: readonly string[] }
  | { readonly why: 'totals'; readonly totals: readonly string[] }
  | { readonly why: 'sums' }

/** A receipt that is there and not applied. Undefined where nobody can say to which closing it belongs: it may be any. */
interface Held {
  readonly recordId: string
  readonly places: readonly { readonly series: string; readonly number: string }[] | undefined
}

/** Receipts that are named as the reason. */
const MOST = 20

/**
 * What closings wait for; one that is complete is not there. All entries before its own are applied, but for documents that wait in quarantine: those of its
 * range, or of which nobody can say that they are not.
 */
export function* waitsFor(open: readonly OpenClosing[], rule: ReceiptsRule, context: FinishContext): Work<ReadonlyMap<OpenClosing, Waits>> {
  const held = yield* quarantined(rule, context)
  const waiting = new Map<OpenClosing, Waits>()
  for (const one of open) {
    const ranges = one.closing?.ranges ?? []
    const receipts = held.filter(({ places }) => (places === undefined ? one.closing !== null : places.some((place) => covers(ranges, place))))
    if (receipts.length > 0) waiting.set(one, { why: 'quarantined', receipts: receipts.slice(0, MOST).map(({ recordId }) => recordId) })
  }
  return waiting
}

function covers(ranges: readonly KnownRange[], { series, number }: { readonly series: string; readonly number: string }): boolean {
  const n = BigInt(number)
  return ranges.some((range) => range.series === series && BigInt(range.from) <= n && n <= BigInt(range.through))
}

function* quarantined(rule: ReceiptsRule, { database, registerId }: FinishContext): Work<readonly Held[]> {
  const rows = yield* query<{ record_id: string; record: string | null; series: string | null; number: string | null }>({
    sql: `SELECT q.record_id, a.record, c.series, c.number::text FROM ${database.qualify(QUARANTINE.name)} q
          LEFT JOIN ${database.qualify(ARCHIVE.name)} a USING (register_id, epoch_no, entry_no)
          LEFT JOIN ${database.qualify(CLOSING_RECEIPTS.name)} c
            ON c.register_id = q.register_id AND c.table_name = q.table_name AND c.record_id = q.record_id AND c.incarnation = q.incarnation
          WHERE q.register_id = $1 AND q.table_name = $2 AND q.state = 'waiting' ORDER BY q.record_id`,
    parameters: [registerId, rule.table],
  })
  return rows.map(({ record_id, record, series, number }) => {
    const own = record === null ? undefined : readPlace(rule, record)
    const before = series === null || number === null ? [] : [{ series, number }]
    return { recordId: record_id, places: own && [own, ...before] }
  })
}

function readPlace(rule: ReceiptsRule, record: string): { readonly series: string; readonly number: string } | undefined {
  try {
    return placeOf(rule, decodeRecord(record))
  } catch {
    return undefined
  }
}
