import { setImmediate } from 'node:timers/promises'
import Database from 'better-sqlite3'
import { sqlite } from '../../../src/adapters/sqlite/adapter.ts'
import type { EntryRow } from './groups.ts'
import { Lockstep } from './sqlite-lockstep.ts'
import { sqliteReader } from './sqlite-standing.ts'
import type { Stage } from './stage.ts'
import type { Reader } from './standing.ts'
import type { Case } from './steps.ts'

export class SqliteStage implements Stage {
  readonly twin: Reader
  private readonly lockstep: Lockstep
  private readonly library: Case['library']
  private readonly file: string

  constructor({ library, connections }: Case, files: readonly [subject: string, twin: string]) {
    this.lockstep = new Lockstep(files, connections)
    this.twin = sqliteReader(this.lockstep.twin)
    this.library = library
    this.file = files[0]
  }

  get schemaVersion(): unknown {
    return this.lockstep.twin.pragma('schema_version', { simple: true })
  }

  get isBetweenTransactions(): boolean {
    return this.lockstep.isBetweenTransactions
  }

  isInTransaction(on: number): boolean {
    return this.lockstep.isInTransaction(on)
  }

  async run(on: number, sql: string): Promise<string | undefined> {
    return this.lockstep.run(on, sql)
  }

  async settle(): Promise<void> {
    this.lockstep.settle()
  }

  async compare(): Promise<void> {
    this.lockstep.compare()
  }

  database() {
    const { host } = this.lockstep
    if (this.library === 'shared') return sqlite(host)
    return sqlite(() => new Database(this.file), this.library === 'named' ? { host } : {})
  }

  async entries(after: number): Promise<EntryRow[]> {
    return this.lockstep.reader
      .prepare(
        'SELECT entry_no AS entryNo, table_name AS "table", operation, record_id AS recordId, record, document, sealed_at AS sealedAt, lower(hex(digest)) AS digest FROM sync_entries WHERE entry_no > ? ORDER BY entry_no',
      )
      .safeIntegers(false)
      .all(after) as EntryRow[]
  }

  async turn(): Promise<void> {
    await setImmediate()
  }

  afterLibrary(): void {
    if (this.library === 'shared') this.lockstep.forgetLastRow(0)
  }

  async abandon(): Promise<void> {
    for (const db of this.lockstep.subject) if (db.inTransaction) db.exec('ROLLBACK')
  }

  async close(): Promise<void> {
    this.lockstep.close()
  }
}
