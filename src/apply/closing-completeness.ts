import { MOST_PARKED } from '../model.ts'
import { isPostable } from '../options.ts'
import { decodeRecord } from '../record.ts'
import { query, type Work } from '../work.ts'
import { placeOf, type ReceiptsRule } from './closing-receipts.ts'
import type { OpenClosing } from './closing-settlement.ts'
import { CLOSING_RECEIPTS } from './closing-tables.ts'
import type { KnownRange } from './closings.ts'
import type { FinishContext } from './finish.ts'
import { ARCHIVE, QUARANTINE, REGISTERS } from './tables.ts'

/**
 * Why a closing is not posted yet. 'quarantined': receipts of its range are not applied, by record id. 'parked': they can't be read at the till. 'taken': another closing has receipts of its range. 'totals': those of the
 * till are not the sums of its receipts. 'sums': they are beyond numeric(18, 6). 'refused': the database does not take its rows, by a trigger or a constraint of the host's.
 */
export type Waits =
  | { readonly why: 'taken'; readonly table: string; readonly recordId: string }
  | { readonly why: 'quarantined'; readonly receipts: readonly string[] }
  | { readonly why: 'parked'; readonly receipts: readonly string[] }
  | { readonly why: 'totals'; readonly totals: readonly string[] }
  | { readonly why: 'sums' }
  | { readonly why: 'refused'; readonly code: string; readonly message: string }

/** A receipt that is there and not applied. Undefined where nobody can say to which closing it belongs: it may be any. */
interface Held {
  readonly recordId: string
  readonly places: readonly { readonly series: string; readonly number: string }[] | undefined
}

/** Receipts that are named as the reason. */
const MOST = 20

/**
 * What closings wait for; one that is complete is not there. All entries before its own are applied, but for documents that wait in quarantine or at the till: those of its
 * range, or of which nobody can say that they are not.
 */
export function* waitsFor(open: readonly OpenClosing[], rule: ReceiptsRule, context: FinishContext): Work<ReadonlyMap<OpenClosing, Waits>> {
  const held = { quarantined: yield* quarantined(rule, context), parked: yield* parked(rule, context) }
  const waiting = new Map<OpenClosing, Waits>()
  for (const why of ['parked', 'quarantined'] as const) {
    for (const closing of open) {
      const receipts = held[why].filter((one) => holds(one, closing)).map(({ recordId }) => recordId)
      if (receipts.length > 0) waiting.set(closing, { why, receipts: receipts.slice(0, MOST) })
    }
  }
  return waiting
}

function holds({ places }: Held, { closing }: OpenClosing): boolean {
  if (closing === null) return false
  return places === undefined || places.some((place) => covers(closing.ranges, place))
}

function covers(ranges: readonly KnownRange[], { series, number }: { readonly series: string; readonly number: string }): boolean {
  const n = BigInt(number)
  return ranges.some((range) => range.series === series && BigInt(range.from) <= n && n <= BigInt(range.through))
}

function* quarantined(rule: ReceiptsRule, { database, registerId }: FinishContext): Work<readonly Held[]> {
  const rows = yield* query<{ record_id: string; record: string | null; is_removal: boolean | null; series: string | null; number: string | null }>({
    sql: `SELECT q.record_id, a.record, a.operation = 'remove' AS is_removal, c.series, c.number::text FROM ${database.qualify(QUARANTINE.name)} q
          LEFT JOIN LATERAL (SELECT record, operation FROM ${database.qualify(ARCHIVE.name)} a
            WHERE a.register_id = q.register_id AND a.epoch_no = q.epoch_no AND a.entry_no = q.entry_no OFFSET 0) a ON true
          LEFT JOIN LATERAL (SELECT series, number FROM ${database.qualify(CLOSING_RECEIPTS.name)} c
            WHERE c.register_id = q.register_id AND c.table_name = q.table_name AND c.record_id = q.record_id AND c.incarnation = q.incarnation OFFSET 0) c ON true
          WHERE q.register_id = $1 AND q.table_name = $2 AND q.state = 'waiting' ORDER BY q.record_id`,
    parameters: [registerId, rule.table],
  })
  return rows.map(({ record_id, record, is_removal, series, number }) => {
    const before = series === null || number === null ? [] : [{ series, number }]
    // A removal belongs where the receipt was.
    if (is_removal === true) return { recordId: record_id, places: before }
    const own = record === null ? undefined : readPlace(rule, record)
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

/** Documents that the register could not read when it last spoke: it has sealed no version of them since. Those that it has not named may be any. */
function* parked(rule: ReceiptsRule, { database, registerId }: FinishContext): Work<readonly Held[]> {
  const [row] = yield* query<{ parked: string | null }>({
    sql: `SELECT parked FROM ${database.qualify(REGISTERS.name)} WHERE register_id = $1`,
    parameters: [registerId],
  })
  const all = JSON.parse(row?.parked ?? '[]') as [string, string][]
  const ids = all.filter(([table]) => table === rule.table).map(([, recordId]) => recordId)
  const readable = ids.filter(isPostable)
  const known = yield* query<{ record_id: string; series: string; number: string }>({
    sql: `SELECT record_id, series, number::text FROM ${database.qualify(CLOSING_RECEIPTS.name)} WHERE register_id = $1 AND table_name = $2 AND record_id = ANY($3::text[])`,
    parameters: [registerId, rule.table, readable],
  })
  const places = Map.groupBy(known, ({ record_id }) => record_id)
  const named = ids.map((recordId) => ({ recordId, places: places.get(recordId) }))
  return all.length < MOST_PARKED ? named : [...named, { recordId: '…', places: undefined }]
}
