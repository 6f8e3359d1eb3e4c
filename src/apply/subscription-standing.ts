import type { AudienceBatch, PartShape } from '../model.ts'
import type { Database } from '../ports.ts'
import { compiledOnce, insert, query, type Work } from '../work.ts'
import { SUBSCRIPTIONS } from './subscription-tables.ts'

/** What a table lacks of what central sends: [table, column], or [table] where it is not there at all. */
export type LeftOut = readonly [table: string, column?: string]

/** How far the register has come in what central publishes of a root table. */
export interface Place {
  readonly table: string
  readonly stream: string | undefined
  readonly entryNo: number
  readonly mark: string
  readonly snapshotNo: number
  readonly state: 'open' | 'ending' | 'complete'
  readonly rules: string
  readonly shape: readonly PartShape[]
  readonly keyColumns: readonly string[]
  readonly leftOut: readonly LeftOut[]
  readonly receivedAt: string | undefined
}

/** Before anything has come. */
export function nowhere(table: string): Place {
  return {
    table,
    stream: undefined,
    entryNo: 0,
    mark: '',
    snapshotNo: 0,
    state: 'open',
    rules: '',
    shape: [],
    keyColumns: [],
    leftOut: [],
    receivedAt: undefined,
  }
}

interface PlaceRow {
  readonly table_name: string
  readonly stream: string | null
  readonly entry_no: number
  readonly mark: string
  readonly snapshot_no: number
  readonly state: Place['state']
  readonly rules: string
  readonly shape: string
  readonly key_columns: string
  readonly left_out: string
  readonly received_at: string | null
}

/** By table, those that anything has come of. */
export function* readPlaces(database: Database): Work<ReadonlyMap<string, Place>> {
  const rows = yield* query<PlaceRow>(allPlaces(database))
  return new Map(rows.map((row) => [row.table_name, toPlace(row)]))
}

const allPlaces = compiledOnce(({ build }) => build.selectFrom(SUBSCRIPTIONS.name).selectAll().compile())

export function* readPlace(database: Database, table: string): Work<Place> {
  const [row] = yield* query<PlaceRow>({ sql: placeOf(database), parameters: [table] })
  return row ? toPlace(row) : nowhere(table)
}

const placeOf = compiledOnce(({ build }) => build.selectFrom(SUBSCRIPTIONS.name).selectAll().where('table_name', '=', '').compile().sql)

export function* writePlace(place: Place): Work<void> {
  const { table, stream, entryNo, mark, snapshotNo, state, rules, shape, keyColumns, leftOut, receivedAt } = place
  const texts = [JSON.stringify(shape), JSON.stringify(keyColumns), JSON.stringify(leftOut)]
  yield* insert(
    SUBSCRIPTIONS,
    [[table, stream ?? null, entryNo, mark, snapshotNo, state, rules, ...texts, receivedAt ?? null]],
    SUBSCRIPTIONS.primaryKey,
  )
}

/** Nothing is said to be here before a snapshot has brought its first batch. */
export const BEGIN = { stream: undefined, entryNo: 0, mark: '', state: 'open' } as const

/** All of a table is to come again, as if it had never come. */
export function comeAgain(place: Place): Work<void> {
  return writePlace({ ...place, ...BEGIN, rules: '', leftOut: [] })
}

/** What a table lacks by now. */
export function* writeLeftOut({ build }: Database, { table, leftOut }: Place): Work<void> {
  yield* query(
    build
      .updateTable(SUBSCRIPTIONS.name)
      .set({ left_out: JSON.stringify(leftOut) })
      .where('table_name', '=', table)
      .compile(),
  )
}

function toPlace(row: PlaceRow): Place {
  return {
    table: row.table_name,
    stream: row.stream ?? undefined,
    entryNo: Number(row.entry_no),
    mark: row.mark,
    snapshotNo: Number(row.snapshot_no),
    state: row.state,
    rules: row.rules,
    shape: JSON.parse(row.shape) as readonly PartShape[],
    keyColumns: JSON.parse(row.key_columns) as readonly string[],
    leftOut: JSON.parse(row.left_out) as readonly LeftOut[],
    receivedAt: row.received_at ?? undefined,
  }
}

/** Whether a batch goes on exactly here, or begins a snapshot. */
export function isNext({ stream, entryNo }: Place, batch: AudienceBatch): boolean {
  return batch.after === 0 || (batch.stream === stream && batch.after === entryNo)
}

/** Whether nothing has moved since it was read. */
export function isSamePlace(a: Place, b: Place): boolean {
  return a.stream === b.stream && a.entryNo === b.entryNo && a.snapshotNo === b.snapshotNo && a.state === b.state
}
