import Database from 'better-sqlite3'
import type { Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import type { MirrorOthers, MirrorRows, MirrorTarget, MirrorUpsert } from '../../src/mirroring.ts'
import type { ApplyingDatabase } from '../../src/ports.ts'
import type { Work } from '../../src/work.ts'
import { createPool, type Postgres } from './postgres.ts'
import { openDatabase } from './shop.ts'

/** A database whose tables a mirror writes, driven by its port alone. */
export interface Stage {
  readonly dialect: 'sqlite' | 'postgres'
  readonly database: ApplyingDatabase
  /** Runs statements as the host. */
  exec(sql: string): Promise<void>
  /** What the host reads: rows as tuples. */
  rows(sql: string): Promise<unknown[]>
}

export async function onPostgres(t: Test, server: Postgres, tables: string): Promise<Stage> {
  const pool = await createPool(t, server)
  await pool.query(tables)
  const database = postgres(pool)
  await database.open()
  t.teardown(() => database.close())
  return {
    dialect: 'postgres',
    database,
    exec: async (sql) => void (await pool.query(sql)),
    rows: async (sql) => (await pool.query({ text: sql, rowMode: 'array' })).rows,
  }
}

/** With the host's connection to the same file. */
export async function onSqlite(
  t: Test,
  tables: string,
  open: (file: string) => Database.Database = (file) => new Database(file),
): Promise<Stage & { readonly db: Database.Database }> {
  const { db, file } = openDatabase(t, tables)
  const database = sqlite(() => open(file), { host: db })
  await database.open()
  t.teardown(() => database.close())
  return { dialect: 'sqlite', database, db, exec: async (sql) => void db.exec(sql), rows: async (sql) => db.prepare(sql).raw().all() }
}

/** The same test on both kinds of database. `{key}` in the tables is the type of a whole number. */
export function onEach(t: Test, server: Postgres, name: string, tables: string, test: (t: Test, stage: Stage) => Promise<void>): void {
  t.test(`SQLite: ${name}`, async (t) => test(t, await onSqlite(t, tables)))
  t.test(`PostgreSQL: ${name}`, async (t) => test(t, await onPostgres(t, server, tables)))
}

type Records = readonly Readonly<Record<string, unknown>>[]

export interface Given {
  readonly rows?: MirrorUpsert['rows']
  /** Default: all that the records have. */
  readonly written?: readonly string[]
  readonly constants?: Readonly<Record<string, unknown>>
  readonly members?: Readonly<Record<string, string>>
  /** Default: the records themselves. */
  readonly others?: (targets: Targets) => readonly MirrorOthers[]
}

export type Targets = ReadonlyMap<string, MirrorTarget>

/** Records of a table, known by the columns of the first. */
export function rowsOf(targets: Targets, table: string, records: Records, { constants = {}, members }: Given = {}): MirrorRows {
  const names = Object.keys(records[0] ?? {})
  const columns = names.map((name) => Object.entries(members ?? {}).find(([, member]) => member === name)?.[0] ?? name)
  const target = targets.get(table) as MirrorTarget
  return { table: target, columns, records: records.map(recordOf), constants, ...(members && { members }) }
}

/** As it is sealed; what is a text of JSON already stays as it is. */
export function recordOf(record: Readonly<Record<string, unknown>>): string {
  return `{${Object.entries(record).map(([name, value]) => `${JSON.stringify(name)}:${value instanceof Json ? value.text : typeof value === 'bigint' ? value : JSON.stringify(value)}`)}}`
}

/** A value as its JSON text: `5.0`, a tag. */
export class Json {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

export function upsertOf(targets: Targets, table: string, records: Records, given: Given = {}): MirrorUpsert {
  const rows = rowsOf(targets, table, records, given)
  const written = given.written ?? rows.columns
  return {
    ...rows,
    rows: given.rows ?? 'known',
    written,
    *others() {
      yield* []
      return given.others?.(targets) ?? [{ ...rows, written }]
    },
  }
}

/** One transaction that writes these tables. */
export function transact<T>(stage: Stage, tables: readonly string[], work: (targets: Targets) => Work<T>): Promise<T> {
  const { database } = stage
  return database.write(function* () {
    return yield* work(yield* database.mirroring.targets(tables))
  })
}

/** One transaction that writes these records. */
export function put(stage: Stage, table: string, records: Records, given: Given = {}): Promise<void> {
  return transact(stage, [table], (targets) => stage.database.mirroring.upsert(upsertOf(targets, table, records, given)))
}

/** Notes in `written`, which the host reads, every row of the table that is written: what to it, and its key. */
export async function noteWrites(stage: Stage, table: string, key: string): Promise<void> {
  await stage.exec('CREATE TABLE written (what text, id text)')
  const row = (event: string) => (event === 'delete' ? 'OLD' : 'NEW')
  for (const event of ['insert', 'update', 'delete']) {
    const note = `INSERT INTO written VALUES ('${event}', ${row(event)}.${key})`
    if (stage.dialect === 'sqlite') await stage.exec(`CREATE TRIGGER note_${event} AFTER ${event} ON ${table} BEGIN ${note}; END`)
    else {
      await stage.exec(`CREATE FUNCTION note_${event}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${note}; RETURN NULL; END $$;
        CREATE TRIGGER note_${event} AFTER ${event} ON ${table} FOR EACH ROW EXECUTE FUNCTION note_${event}()`)
    }
  }
}

/** What was written since it was last asked. */
export async function writes(stage: Stage): Promise<string[]> {
  const rows = (await stage.rows('SELECT what, id FROM written')) as [string, string][]
  await stage.exec('DELETE FROM written')
  return rows.map(([what, id]) => `${what} ${id}`).sort()
}
