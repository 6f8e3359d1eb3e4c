import type { Pool } from 'pg'
import type { AnyDocument, Register, RegisterName } from '../../src/index.ts'
import { exact, type Read, readRecord, readRecordId, row, shown, shownAs } from './exact.ts'

/** A row of sync_entries or sync_archive. */
export interface EntryRow {
  readonly entry_no: number
  readonly table_name: string
  readonly operation: string
  readonly record_id: string
  readonly record: string | null
}

export const ENTRY_COLUMNS = 'entry_no, table_name, operation, record_id, record'

export interface ReplayedRecord {
  readonly table: string
  /** The record id, to the bit. */
  readonly id: string
  readonly columns: Readonly<Record<string, Read>>
}

/** The column of parts that refers to the root, and what it refers to. */
interface Joint {
  readonly own: string
  readonly root: string
}

/** What entries add up to: for each document the records of its latest version. */
export class Documents {
  private readonly records = new Map<string, ReplayedRecord[]>()
  private readonly isRoot: (table: string) => boolean
  private readonly joint: Joint
  private document = ''
  private changed = new Set<string>()

  constructor(isRoot: (table: string) => boolean, joint: Joint) {
    this.isRoot = isRoot
    this.joint = joint
  }

  /** Answers the documents that these entries changed and left there, as a handler must get them; see `shownDocument`. */
  add(entries: readonly EntryRow[]): string[] {
    this.changed = new Set()
    for (const entry of entries) this.addOne(entry)
    return [...this.changed].flatMap((name) => {
      const records = this.records.get(name)
      return records === undefined ? [] : [records[0]?.table, ...this.joined(records).map(({ columns }) => row(columns, shownAs))].join(' / ')
    })
  }

  /** Texts that the till takes for equal are written in parts as in their root. */
  private joined(records: readonly ReplayedRecord[]): readonly ReplayedRecord[] {
    const { own, root } = this.joint
    const above = records[0]?.columns[root]
    if (above?.kind !== 'text') return records
    return records.map((one, n) => (n > 0 && one.columns[own]?.kind === 'text' ? { ...one, columns: { ...one.columns, [own]: above } } : one))
  }

  private addOne({ table_name, operation, record_id, record }: EntryRow): void {
    if (this.isRoot(table_name)) {
      this.document = `${table_name}${record_id}`
      this.records.set(this.document, [])
      this.changed.add(this.document)
    }
    if (operation === 'remove') this.records.delete(this.document)
    else
      this.records.get(this.document)?.push({ table: table_name, id: readRecordId(record_id).map(exact).join(), columns: readRecord(record ?? '') })
  }

  of(table: string): readonly ReplayedRecord[] {
    return [...this.records.values()].flat().filter((one) => one.table === table)
  }

  /** The same as it is to be mirrored. */
  mirrored(table: string): readonly ReplayedRecord[] {
    return [...this.records.values()].flatMap((records) => this.joined(records)).filter((one) => one.table === table)
  }
}

/** A document as handlers get it, in one text. */
export function shownDocument(table: string, { parts, ...root }: AnyDocument): string {
  return [table, row(root, shown), ...Object.values(parts).flatMap((rows) => rows.map((part) => row(part, shown)))].join(' / ')
}

/** An entry as `entries()` lists it, in one text. */
export function shownEntry({ record_id, record }: EntryRow): string {
  return `${readRecordId(record_id).map(shownAs)} → ${record === null ? '' : row(readRecord(record), shownAs)}`
}

/** The same by the library's own reading. */
export async function listed(replica: Register, after: number): Promise<string[]> {
  const texts: string[] = []
  for (let at = after; ; ) {
    const entries = await replica.entries({ after: at, limit: 1_000 })
    texts.push(...entries.map(({ recordId, record }) => `${recordId.map(shown)} → ${record === null ? '' : row(record, shown)}`))
    if (entries.length === 0) return texts
    at = entries.at(-1)?.entryNo ?? at
  }
}

/** What central's archive holds of a register behind an entry. */
export async function archived(pool: Pool, { location, register }: RegisterName, after: number): Promise<EntryRow[]> {
  const { rows } = await pool.query<EntryRow>(
    `SELECT a.entry_no::int, a.table_name, a.operation, a.record_id, a.record FROM sync_archive a JOIN sync_registers USING (register_id)
     WHERE location = $1 AND register = $2 AND a.entry_no > $3 ORDER BY a.entry_no`,
    [location, register, after],
  )
  return rows
}
