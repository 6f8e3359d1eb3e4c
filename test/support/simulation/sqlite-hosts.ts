import { copyFileSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { sqlite } from '../../../src/adapters/sqlite/adapter.ts'
import { createRegister } from '../../../src/index.ts'
import type { CapturingDatabase } from '../../../src/ports.ts'
import type { Host, Hosts } from './hosts.ts'
import { publishRules, TILL_TABLES } from './tables.ts'

/** What waits for a disk takes long, and nothing here loses power. */
const MEMORY = '/dev/shm'

export class SqliteHosts implements Hosts {
  private readonly folder = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), 'tillsync-simulation-'))
  private readonly template = join(this.folder, 'template.sqlite')
  private isMade = false
  private opened = 0

  async open(): Promise<Host> {
    if (!this.isMade) await this.make()
    const file = this.nextFile()
    copyFileSync(this.template, file)
    return new SqliteHost(file, () => this.nextFile())
  }

  async end(): Promise<void> {
    rmSync(this.folder, { recursive: true, force: true })
  }

  private nextFile(): string {
    return join(this.folder, `till-${++this.opened}.sqlite`)
  }

  private async make(): Promise<void> {
    const db = new Database(this.template)
    db.pragma('journal_mode = WAL')
    db.exec(TILL_TABLES)
    const replica = createRegister({
      location: 'any',
      register: 'any',
      database: sqlite(() => new Database(this.template)),
      publish: publishRules(false),
    })
    await replica.install()
    await replica.stop()
    db.exec("DELETE FROM sync_state WHERE key = 'epoch'")
    db.pragma('wal_checkpoint(TRUNCATE)')
    db.close()
    this.isMade = true
  }
}

class SqliteHost implements Host {
  private readonly file: string
  private readonly nextFile: () => string
  private db: Database.Database

  constructor(file: string, nextFile: () => string) {
    this.file = file
    this.nextFile = nextFile
    this.db = new Database(file)
  }

  database(): CapturingDatabase {
    return sqlite(() => new Database(this.file))
  }

  async run(statements: readonly string[]): Promise<void> {
    this.db.exec(['BEGIN IMMEDIATE', ...statements, 'COMMIT'].join(';'))
  }

  async query<Row>(sql: string): Promise<readonly Row[]> {
    return this.db.prepare<[], Row>(sql).all()
  }

  async backup(): Promise<unknown> {
    return this.db.serialize()
  }

  async restore(backup: unknown): Promise<void> {
    this.db.close()
    for (const suffix of ['-wal', '-shm']) rmSync(this.file + suffix, { force: true })
    writeFileSync(this.file, backup as Buffer)
    this.db = new Database(this.file)
  }

  async clone(): Promise<Host> {
    const file = this.nextFile()
    writeFileSync(file, this.db.serialize())
    return new SqliteHost(file, this.nextFile)
  }

  async close(): Promise<void> {
    this.db.close()
    for (const suffix of ['', '-wal', '-shm']) rmSync(this.file + suffix, { force: true })
  }
}
