import type { Database } from '../ports.ts'
import { query, type Work } from '../work.ts'
import type { HandlersByTable } from './handler.ts'
import { mirrorOptions } from './mirror.ts'
import { DOCUMENTS } from './tables.ts'

/** Tells those of a table's documents that the register has sent itself, by their record ids there; undefined where nothing that registers send is mirrored to it. */
export function givenBy(
  { build }: Database,
  handlers: HandlersByTable,
  registerId: number,
  table: string,
): ((recordIds: readonly string[]) => Work<ReadonlySet<string>>) | undefined {
  const sources = [...handlers].flatMap(([source, all]) => (all.some((handler) => isMirroredTo(source, handler, table)) ? [source] : []))
  if (sources.length === 0) return undefined
  return function* (recordIds) {
    if (recordIds.length === 0) return new Set()
    const rows = yield* query<{ record_id: string }>(
      build
        .selectFrom(DOCUMENTS.name)
        .select('record_id')
        .where('register_id', '=', registerId)
        .where('table_name', 'in', sources)
        .where('record_id', 'in', recordIds)
        .where('removed', '=', false)
        .compile(),
    )
    return new Set(rows.map((row) => row.record_id))
  }
}

function isMirroredTo(source: string, handler: object, table: string): boolean {
  const options = mirrorOptions(handler)
  return options !== undefined && options.rows !== 'update' && (options.rename?.table ?? source) === table
}
