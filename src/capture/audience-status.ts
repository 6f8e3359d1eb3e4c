import type { RegisterName, UnappliedDocument, Value } from '../model.ts'
import type { Database } from '../ports.ts'
import { decodeRecordId } from '../record.ts'
import { query, type Work } from '../work.ts'
import { AUDIENCE_REGISTERS, AUDIENCES, UNAPPLIED } from './audience-tables.ts'

/** How far a register has come in what is published for it of a root table. */
export interface SubscribedTable extends RegisterName {
  readonly table: string
  /** The entry of its stream that it has; 0 where it has to begin. */
  readonly entryNo: number
  /** The last entry of the stream. */
  readonly head: number
  /** When it last said so, to about an hour where nothing was new; ISO 8601, UTC. */
  readonly heardAt: string
  /** What of it could not be applied there; at most 50. */
  readonly unapplied: readonly Unapplied[]
}

export interface Unapplied extends Omit<UnappliedDocument, 'table' | 'recordId'> {
  readonly recordId: readonly Value[]
}

/** By location, register and table. */
export function* listSubscribed(database: Database): Work<readonly SubscribedTable[]> {
  const { build } = database
  const rows = yield* query<
    RegisterName & { register_id: number; table: string; entry_no: number; head_no: number; known: boolean; heard_at: string }
  >(
    build
      .selectFrom(`${AUDIENCE_REGISTERS.name} as s`)
      .innerJoin(`${AUDIENCES.name} as a`, 'a.audience_id', 's.audience_id')
      .innerJoin('sync_registers as r', 'r.register_id', 's.register_id')
      .select(['r.location', 'r.register', 's.register_id', 's.table_name as table', 's.entry_no', 'a.head_no', 's.known', 's.heard_at'])
      .orderBy('r.location')
      .orderBy('r.register')
      .orderBy('s.table_name')
      .compile(),
  )
  const refused = yield* query<{ register_id: number; table_name: string; record_id: string; code: string; message: string }>(
    build.selectFrom(UNAPPLIED.name).selectAll().orderBy('record_id').compile(),
  )
  return rows.map(({ location, register, register_id, table, entry_no, head_no, known, heard_at }) => ({
    location,
    register,
    table,
    entryNo: known ? entry_no : 0,
    head: head_no,
    heardAt: new Date(heard_at).toISOString(),
    unapplied: refused
      .filter((one) => one.register_id === register_id && one.table_name === table)
      .map(({ record_id, code, message }) => ({ recordId: decodeRecordId(record_id), code, message })),
  }))
}
