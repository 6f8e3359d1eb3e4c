import { copyFileSync, rmSync } from 'node:fs'
import Database from 'better-sqlite3'
import type { Pool } from 'pg'
import type { Test } from 'tap'
import { postgres } from '../../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, createRegister, type Link, type MirrorRules, mirror, type Register, type RegisterName } from '../../../src/index.ts'
import { createPool, type Postgres } from '../postgres.ts'
import type { Random } from '../random.ts'
import { openDatabase } from '../shop.ts'
import { type Column, columnsOfPart, create, keyOf, quote, type RootTable } from './schema.ts'

/** A table as a till has it. */
interface TillTable {
  /** Head office's name of it. */
  readonly sent: string
  readonly name: string
  readonly columns: readonly Column[]
  readonly key: readonly Column[]
  /** By head office's names, those that are called otherwise. */
  readonly renamed: Readonly<Record<string, string>>
  /** One that the table does not have yet. */
  lacking: Column | undefined
  /** One that the till does not want. */
  readonly except: string | undefined
}

/** A till with its own version of head office's tables. */
export class DownwardTill {
  readonly name: RegisterName
  readonly dialect: 'sqlite' | 'postgres'
  group: string
  replica: Register
  /** Another process of it. */
  other: Register
  private readonly tables: readonly TillTable[]
  private readonly open: () => Register
  private readonly run: (sql: string) => Promise<readonly Record<string, unknown>[]>
  private readonly file: string | undefined
  private backedUp = false
  private lackingThen: readonly (Column | undefined)[] = []

  private constructor(name: RegisterName, group: string, tables: readonly TillTable[], host: Host, open: () => Register) {
    this.name = name
    this.group = group
    this.tables = tables
    this.dialect = host.file === undefined ? 'postgres' : 'sqlite'
    this.run = host.run
    this.file = host.file
    this.open = open
    this.replica = open()
    this.other = open()
  }

  static async create(t: Test, server: Postgres, random: Random, roots: readonly RootTable[], options: TillOptions): Promise<DownwardTill> {
    const tables = roots.flatMap((root) => tablesOf(random, root))
    const dialect = random.chance(0.3) ? 'postgres' : 'sqlite'
    const host = await hostOf(t, server, dialect)
    for (const table of tables) {
      const columns = table.columns
        .filter((column) => column !== table.lacking)
        .map((column) => ({ ...column, name: table.renamed[column.name] ?? column.name }))
      const key = columns.filter((column) => table.key.some((one) => (table.renamed[one.name] ?? one.name) === column.name))
      const ordered = table.key.map((one) => key.find((column) => column.name === (table.renamed[one.name] ?? one.name)) as Column)
      await host.run(create(dialect, table.name, columns, ordered))
    }
    const subscribe = subscribeOf(random, roots, tables)
    const open = () => {
      const replica = createRegister<AnyTables>({
        ...options.name,
        database: host.database(),
        publish: {},
        subscribe,
        transfer: { type: 'push', link: options.link, recordsPerRun: options.recordsPerRun },
      })
      t.teardown(() => replica.stop())
      return replica
    }
    const till = new DownwardTill(options.name, options.group, tables, host, open)
    await till.replica.install()
    return till
  }

  async restart(): Promise<void> {
    await this.stop()
    this.replica = this.open()
    this.other = this.open()
    await this.replica.install()
  }

  private async stop(): Promise<void> {
    await Promise.all([this.replica.stop(), this.other.stop()])
  }

  /** Of the whole file; on PostgreSQL there is none. */
  async backup(): Promise<void> {
    if (this.file === undefined) return
    await this.stop()
    await this.run('PRAGMA wal_checkpoint(TRUNCATE)')
    copyFileSync(this.file, `${this.file}.backup`)
    this.backedUp = true
    this.lackingThen = this.tables.map(({ lacking }) => lacking)
    await this.restart()
  }

  async restore(): Promise<void> {
    if (this.file === undefined || !this.backedUp) return
    await this.stop()
    for (const end of ['-wal', '-shm']) rmSync(this.file + end, { force: true })
    copyFileSync(`${this.file}.backup`, this.file)
    for (const [n, table] of this.tables.entries()) table.lacking = this.lackingThen[n]
    await this.restart()
  }

  /** A later version of the POS brings what its tables lack. */
  async upgrade(): Promise<void> {
    for (const table of this.tables) {
      const { lacking } = table
      if (lacking === undefined) continue
      await this.run(
        `ALTER TABLE ${quote(table.name)} ADD COLUMN ${quote(table.renamed[lacking.name] ?? lacking.name)} ${lacking.type[this.dialect]}`,
      )
      table.lacking = undefined
    }
  }

  /** What each table holds, as head office would name it, and which of its columns. */
  async held(): Promise<readonly { readonly table: string; readonly columns: readonly Column[]; readonly rows: readonly string[] }[]> {
    const held = []
    for (const table of this.tables) {
      const columns = table.columns.filter((column) => column !== table.lacking && column.name !== table.except)
      const names = columns.map((column) => quote(table.renamed[column.name] ?? column.name))
      const rows = await this.run(
        `SELECT ${names.map((name, n) => `CAST(${name} AS TEXT) AS v${n}, ${bytes(this.dialect, name, columns[n])} AS b${n}`).join(', ')} FROM ${quote(table.name)}`,
      )
      held.push({ table: table.sent, columns, rows: rows.map((row) => canonical(columns, row)).sort() })
    }
    return held
  }
}

/** A row as texts that are the same in both dialects. */
export function canonical(columns: readonly Column[], row: Readonly<Record<string, unknown>>): string {
  return JSON.stringify(
    columns.map(({ type }, n) => {
      const [value, hex] = [row[`v${n}`], row[`b${n}`]]
      if (type.postgres === 'bytea') return hex === null || hex === undefined ? null : String(hex).toLowerCase()
      if (value === null || value === undefined) return null
      if (type.postgres === 'boolean') return ['1', 'true', 't'].includes(String(value))
      return type.postgres.startsWith('numeric') ? String(value).replace(/\.?0+$/, '') : String(value)
    }),
  )
}

export function bytes(dialect: 'sqlite' | 'postgres', name: string, column: Column | undefined): string {
  if (column?.type.postgres !== 'bytea') return 'NULL'
  return dialect === 'sqlite' ? `CASE WHEN ${name} IS NULL THEN NULL ELSE hex(${name}) END` : `encode(${name}, 'hex')`
}

export interface TillOptions {
  readonly name: RegisterName
  readonly group: string
  readonly link: Link
  readonly recordsPerRun: number
}

function tablesOf(random: Random, root: RootTable): readonly TillTable[] {
  const joints = new Set(root.key)
  return [
    tableOf(random, root.name, [...root.key, ...root.columns], root.key, joints),
    ...root.parts.map((part) => tableOf(random, part.name, columnsOfPart(part), keyOf(part), new Set([...part.above, part.lineNo]))),
  ]
}

function tableOf(random: Random, sent: string, columns: readonly Column[], key: readonly Column[], needed: ReadonlySet<Column>): TillTable {
  const free = random.shuffle(columns.filter((column) => !needed.has(column) && !key.includes(column)))
  const renamed = random.chance(0.3) ? Object.fromEntries([random.pick(columns)].map((column) => [column.name, `my ${column.name}`])) : {}
  return {
    sent,
    name: random.chance(0.2) ? `my ${sent}` : sent,
    columns,
    key,
    renamed,
    lacking: random.chance(0.2) && free[0] !== undefined && !(free[0].name in renamed) ? free[0] : undefined,
    except: random.chance(0.2) ? free[1]?.name : undefined,
  }
}

function subscribeOf(random: Random, roots: readonly RootTable[], tables: readonly TillTable[]): MirrorRules<AnyTables> {
  const isRoot = (name: string) => roots.some((root) => root.name === name)
  return Object.fromEntries(
    random.shuffle(tables).flatMap(({ sent, name, renamed, except }) => {
      const isPlain = name === sent && Object.keys(renamed).length === 0 && except === undefined
      if (!isRoot(sent) && isPlain && random.chance(0.5)) return []
      const rename = { ...(name !== sent && { table: name }), columns: renamed }
      return [[sent, mirror({ rename, ...(except !== undefined && { except: [except] }) })]]
    }),
  )
}

interface Host {
  readonly file: string | undefined
  readonly database: () => ReturnType<typeof sqlite> | ReturnType<typeof postgres>
  readonly run: (sql: string) => Promise<readonly Record<string, unknown>[]>
}

async function hostOf(t: Test, server: Postgres, dialect: 'sqlite' | 'postgres'): Promise<Host> {
  if (dialect === 'postgres') {
    const pool: Pool = await createPool(t, server)
    return { file: undefined, database: () => postgres(pool), run: async (sql) => (await pool.query(sql)).rows }
  }
  const { db, file } = openDatabase(t, '')
  db.close()
  const run = async (sql: string) => {
    const own = new Database(file)
    try {
      const statement = own.prepare(sql)
      if (statement.reader) return statement.all() as Record<string, unknown>[]
      statement.run()
      return []
    } finally {
      own.close()
    }
  }
  return { file, database: () => sqlite(() => new Database(file)), run }
}
