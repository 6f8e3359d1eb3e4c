import { createHash, type Hash } from 'node:crypto'
import { type HashedTable, hashedLine } from '../comparison.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { writtenMembers } from '../record.ts'
import { query, type Work } from '../work.ts'
import { ARCHIVE } from './tables.ts'

/** The version of a document, and where in the archive it stands. */
export interface PlacedVersion {
  readonly recordId: string
  readonly epochNo: number
  readonly entryNo: number
  readonly entries: number
}

/** What is read at a time: records may be megabytes each, and documents many records. */
const MOST_VERSIONS = 200
const MOST_BYTES = 16_000_000

interface EntryRow {
  readonly n: number
  readonly operation: string
  readonly table_name: string
  readonly record_id: string
  readonly record: string | null
  readonly before: number
}

/**
 * The hashes of archived versions, by record id, as their register has made them when it sealed them: over all records, without the values that do not count. One of
 * which an entry is missing, or no record any more, has none.
 */
export function* hashesOf(
  database: ApplyingDatabase,
  registerId: number,
  versions: readonly PlacedVersion[],
  tables: readonly HashedTable[],
): Work<ReadonlyMap<string, string>> {
  const hashes = new Map<string, string>()
  const lines = new HashedLines(tables)
  let at = 0
  let hash = createHash('sha256')
  /** Entries of the version at which it is. */
  let read = 0
  while (at < versions.length) {
    const some = versions.slice(at, at + MOST_VERSIONS)
    const rows = yield* readEntries(database, registerId, some, read)
    const last = rows.at(-1)
    const isCut = last !== undefined && last.before + Buffer.byteLength(last.record ?? '') >= MOST_BYTES
    const groups = Map.groupBy(rows, ({ n }) => n)
    for (const [n, version] of some.entries()) {
      const own = groups.get(n + 1) ?? []
      if (own.every((row) => lines.add(hash, row))) read += own.length
      else read = Number.NaN
      // The rest of it comes with the next reading.
      if (isCut && last.n === n + 1 && read < version.entries) break
      if (read === version.entries && version.entries > 0) hashes.set(version.recordId, hash.digest('hex'))
      hash = createHash('sha256')
      read = 0
      at++
      if (isCut && last.n === n + 1) break
    }
  }
  return hashes
}

function readEntries(database: ApplyingDatabase, registerId: number, versions: readonly PlacedVersion[], read: number): Work<readonly EntryRow[]> {
  return query<EntryRow>({
    // One by one, by the key: what the planner thinks of a young archive would have it read whole for all of them.
    sql: `SELECT * FROM (
            SELECT v.n, a.entry_no, a.operation, a.table_name, a.record_id, a.record,
                   coalesce(sum(octet_length(a.record)) OVER (ORDER BY v.n, a.entry_no ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)::bigint AS before
            FROM unnest($2::bigint[], $3::bigint[], $4::bigint[]) WITH ORDINALITY AS v(of_epoch, first, many, n)
            CROSS JOIN LATERAL (SELECT * FROM ${database.qualify(ARCHIVE.name)} a
              WHERE a.register_id = $1 AND a.epoch_no = v.of_epoch AND a.entry_no >= v.first AND a.entry_no < v.first + v.many OFFSET 0) a) e
          WHERE before < ${MOST_BYTES} ORDER BY n, entry_no`,
    parameters: [
      registerId,
      versions.map(({ epochNo }) => epochNo),
      versions.map(({ entryNo }, n) => entryNo + (n === 0 ? read : 0)),
      versions.map(({ entries }, n) => entries - (n === 0 ? read : 0)),
    ],
  })
}

/** The lines of records, as the hash of their document takes them. */
export class HashedLines {
  private readonly columns: ReadonlyMap<string, readonly { readonly name: string; readonly initial: string; readonly prefix: string }[]>

  constructor(tables: readonly HashedTable[]) {
    this.columns = new Map(
      tables.map(({ table, columns }) => [table, columns.map(({ name, initial }) => ({ name, initial, prefix: `${JSON.stringify(name)}:` }))]),
    )
  }

  /** False where it is no record. */
  add(hash: Hash, { operation, table_name, record_id, record }: Pick<EntryRow, 'operation' | 'table_name' | 'record_id' | 'record'>): boolean {
    if (operation !== 'upsert' || record === null) return false
    try {
      hash.update(hashedLine(table_name, record_id, this.contentOf(table_name, record)))
      return true
    } catch {
      return false
    }
  }

  private contentOf(table: string, record: string): string {
    const members = writtenMembers(record)
    let content = ''
    for (const { name, initial, prefix } of this.columns.get(table) ?? []) {
      const value = members.get(name)
      if (value !== undefined && value !== initial) content += `${prefix}${value},`
    }
    return content
  }
}
