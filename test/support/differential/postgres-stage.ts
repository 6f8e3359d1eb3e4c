import { setTimeout as pause } from 'node:timers/promises'
import type pg from 'pg'
import { postgres } from '../../../src/adapters/postgres/adapter.ts'
import { Break } from './break.ts'
import type { EntryRow } from './groups.ts'
import { Lockstep } from './postgres-lockstep.ts'
import { postgresReader } from './postgres-standing.ts'
import type { Stage } from './stage.ts'
import type { Reader } from './standing.ts'

/** Sessions on one database, which many cases use in turn. */
export interface Sessions {
  readonly library: pg.Pool
  readonly hosts: readonly { readonly subject: pg.Client; readonly twin: pg.Client }[]
  readonly readers: { readonly subject: pg.Client; readonly twin: pg.Client }
}

/** The library's tables are in the first one. */
export const SCHEMAS = { subject: 'till', twin: 'twin' } as const

/** How long others have their turn at most. */
const TURN_MS = 20

export class PostgresStage implements Stage {
  readonly twin: Reader
  private readonly lockstep: Lockstep
  private readonly sessions: Sessions
  private version = 0

  constructor(sessions: Sessions, connections: number) {
    this.sessions = sessions
    this.lockstep = new Lockstep(sessions.hosts.slice(0, connections))
    this.twin = postgresReader(sessions.readers.twin, () => this.lockstep.changes)
  }

  /** A table that is being changed can't be looked at: what it comes to is looked at later. */
  get schemaVersion(): unknown {
    if (this.isBetweenTransactions) this.version = this.lockstep.changes
    return this.version
  }

  get isBetweenTransactions(): boolean {
    return this.lockstep.isBetweenTransactions
  }

  isInTransaction(on: number): boolean {
    return this.lockstep.isInTransaction(on)
  }

  run(on: number, sql: string): Promise<string | undefined> {
    return this.lockstep.run(on, sql)
  }

  settle(): Promise<void> {
    return this.lockstep.settle()
  }

  async compare(): Promise<void> {
    const { subject, twin } = this.sessions.readers
    const [found, wanted] = [await contentOf(subject), await contentOf(twin)]
    for (const [name, content] of wanted)
      if (found.get(name) !== content) throw new Break('tables', `${name}\n  with the library: ${found.get(name)}\n  without:          ${content}`)
    for (const name of found.keys()) if (!wanted.has(name)) throw new Break('tables', `${name} is there with the library only`)
  }

  database() {
    return postgres(this.sessions.library, { schema: SCHEMAS.subject })
  }

  async entries(after: number): Promise<EntryRow[]> {
    const { rows } = await this.sessions.readers.subject.query<EntryRow>(
      `SELECT entry_no::int AS "entryNo", table_name AS "table", operation, record_id AS "recordId", record, document, sealed_at AS "sealedAt",
              encode(digest, 'hex') AS digest
       FROM sync_entries WHERE entry_no > $1 ORDER BY entry_no`,
      [after],
    )
    return rows
  }

  async turn(background: readonly Promise<unknown>[]): Promise<void> {
    await Promise.race([Promise.allSettled(background), pause(background.length === 0 ? 1 : TURN_MS)])
  }

  afterLibrary(): void {}

  abandon(): Promise<void> {
    return this.lockstep.abandon()
  }

  async close(): Promise<void> {}
}

const TABLES = `
  SELECT c.oid::regclass::text AS name, c.relkind, (SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull), ', ' ORDER BY a.attnum)
           FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
         (SELECT string_agg(k.conname, ', ' ORDER BY k.conname) FROM pg_constraint k WHERE k.conrelid = c.oid) AS constraints,
         (SELECT string_agg(concat(t.tgname, t.tgenabled), ', ' ORDER BY t.tgname) FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal AND NOT starts_with(t.tgname, 'sync_')) AS triggers
  FROM pg_class c WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p', 'S', 'v') AND NOT starts_with(c.relname, 'sync_')`

async function contentOf(client: pg.Client): Promise<Map<string, string>> {
  const contents = new Map<string, string>()
  for (const { name, relkind, ...shape } of (await client.query(TABLES)).rows) {
    contents.set(`table ${name}`, JSON.stringify(shape))
    const value = relkind === 'S' ? 't.last_value::text' : 't::text'
    const { rows } = await client.query(`SELECT ${value} AS text FROM ${name} AS t`)
    contents.set(
      `rows of ${name}`,
      rows
        .map(({ text }) => text)
        .sort()
        .join(' '),
    )
  }
  return contents
}
