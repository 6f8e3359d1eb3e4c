import { MOST_PARKED } from '../model.ts'
import { isPostable } from '../options.ts'
import { decodeRecord } from '../record.ts'
import { query, type Statement, type Work } from '../work.ts'
import { placeOf, type ReceiptsRule } from './closing-receipts.ts'
import type { OpenClosing } from './closing-settlement.ts'
import { CLOSING_RECEIPTS } from './closing-tables.ts'
import type { KnownRange } from './closings.ts'
import { Cursor } from './cursor.ts'
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

/** Where a receipt is, or was, numbered. */
interface Place {
  readonly series: string
  readonly number: bigint
}

/** A receipt that is there and not applied. Without places nobody can say to which closing it belongs: it may be any. */
interface Held {
  readonly recordId: string
  readonly places: readonly Place[] | undefined
}

/** Receipts that are named as the reason. */
const MOST = 20
/** Receipts in quarantine that are read at once. */
const PAGE = 1_000

/**
 * What closings wait for; one that is complete is not there. All entries before its own are applied, but for documents that wait in quarantine or at the till: those of its
 * range, or of which nobody can say that they are not.
 */
export function* waitsFor(open: readonly OpenClosing[], rule: ReceiptsRule, context: FinishContext): Work<ReadonlyMap<OpenClosing, Waits>> {
  const ranges = open.flatMap((closing) => (closing.closing === null ? [] : [{ closing, ranges: closing.closing.ranges.map(boundsOf) }]))
  const held = { parked: new Map<OpenClosing, string[]>(), quarantined: new Map<OpenClosing, string[]>() }
  const hold = (why: keyof typeof held, receipts: readonly Held[]): void => {
    for (const { closing, ranges: own } of ranges) {
      const named = held[why].get(closing) ?? []
      if (named.length >= MOST) continue
      for (const { recordId, places } of receipts)
        if (named.length < MOST && (places === undefined || places.some((place) => covers(own, place)))) named.push(recordId)
      if (named.length > 0) held[why].set(closing, named)
    }
  }
  hold('parked', yield* parked(rule, context))
  const cursor = new Cursor<WaitingRow>('sync_held', PAGE)
  yield* cursor.open(quarantined(rule, context))
  for (let rows = yield* cursor.next(); rows.length > 0; rows = yield* cursor.next())
    hold(
      'quarantined',
      rows.map((row) => heldBy(rule, row)),
    )
  yield* cursor.close()
  const waiting = new Map<OpenClosing, Waits>()
  for (const why of ['parked', 'quarantined'] as const) for (const [closing, receipts] of held[why]) waiting.set(closing, { why, receipts })
  return waiting
}

interface Bounds {
  readonly series: string
  readonly from: bigint
  readonly through: bigint
}

function boundsOf({ series, from, through }: KnownRange): Bounds {
  return { series, from: BigInt(from), through: BigInt(through) }
}

function covers(ranges: readonly Bounds[], { series, number }: Place): boolean {
  return ranges.some((range) => range.series === series && range.from <= number && number <= range.through)
}

interface WaitingRow {
  readonly record_id: string
  readonly record: string | null
  readonly is_removal: boolean | null
  readonly series: string | null
  readonly number: string | null
}

/** What waits, with its place in the version that was applied before, where there is one. */
function quarantined(rule: ReceiptsRule, { database, registerId }: FinishContext): Statement {
  return {
    sql: `SELECT q.record_id, a.record, a.operation = 'remove' AS is_removal, c.series, c.number::text FROM ${database.qualify(QUARANTINE.name)} q
          LEFT JOIN LATERAL (SELECT record, operation FROM ${database.qualify(ARCHIVE.name)} a
            WHERE a.register_id = q.register_id AND a.epoch_no = q.epoch_no AND a.entry_no = q.entry_no OFFSET 0) a ON true
          LEFT JOIN LATERAL (SELECT series, number FROM ${database.qualify(CLOSING_RECEIPTS.name)} c
            WHERE c.register_id = q.register_id AND c.table_name = q.table_name AND c.record_id = q.record_id AND c.incarnation = q.incarnation OFFSET 0) c ON true
          WHERE q.register_id = $1 AND q.table_name = $2 AND q.state = 'waiting' ORDER BY q.record_id`,
    parameters: [registerId, rule.table],
  }
}

function heldBy(rule: ReceiptsRule, { record_id, record, is_removal, series, number }: WaitingRow): Held {
  const before = series === null || number === null ? [] : [{ series, number: BigInt(number) }]
  // A removal belongs where the receipt was.
  if (is_removal === true) return { recordId: record_id, places: before }
  const own = record === null ? undefined : readPlace(rule, record)
  return { recordId: record_id, places: own && [own, ...before] }
}

function readPlace(rule: ReceiptsRule, record: string): Place | undefined {
  try {
    const { series, number } = placeOf(rule, decodeRecord(record))
    return { series, number: BigInt(number) }
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
  const named = ids.map((recordId) => ({
    recordId,
    places: places.get(recordId)?.map(({ series, number }) => ({ series, number: BigInt(number) })),
  }))
  return all.length < MOST_PARKED ? named : [...named, { recordId: '…', places: undefined }]
}
