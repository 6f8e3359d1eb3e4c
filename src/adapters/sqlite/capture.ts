import type { Database as Connection } from 'better-sqlite3'
import { TillsyncError } from '../../errors.ts'
import type { HostTable } from '../../host-table.ts'
import { RULES, STATE } from '../../migrate.ts'
import type { Finding } from '../../model.ts'
import { type Capture, type Changes, isOwnKey, type TableRead, type TakenTouches, type Touch, type TouchKind, type TouchSource } from '../../ports.ts'
import { InvalidText } from '../../record.ts'
import { SOURCES, TouchSources } from '../../touch-sources.ts'
import { type Key, lookup, query, type Statement, type Work } from '../../work.ts'
import { connectionFindings, slowReplace, unknownReplace, unseenReplace } from './findings.ts'
import { inspect } from './inspect.ts'
import { createTable, hasTable } from './tables.ts'
import { fold, KINDS, keyColumns, lookupsInTheWay, type NumberedSource, quote, touchesTable, triggersFor } from './triggers.ts'

const run = (sql: string, parameters: readonly unknown[] = []): Work<readonly unknown[]> => query({ sql, parameters })

/** How many touches of one record are expected one after another: a line touches its receipt, and so does the next. */
const ALIKE = 8
/** But as many are read at least: or a document of thousands of lines would be read again for every few of its touches. */
const LEAST_READ = 2_048

/** Touches in an SQLite database: sync_touches, filled by triggers, emptied by the collector. */
export class SqliteCapture implements Capture {
  private readonly sources = new TouchSources(quote(SOURCES.name), () => hasTable(SOURCES.name))
  private width = 0
  /** The host's own connection, where it is known. */
  private readonly host: Connection | undefined

  constructor(host: Connection | undefined) {
    this.host = host
  }

  *prepare(): Work<void> {} // nothing is locked but all

  *install(sources: readonly TouchSource[], tables: ReadonlyMap<string, HostTable>): Work<Changes> {
    const { statements: own, lost } = yield* this.ownTables(sources)
    for (const sql of own) yield* run(sql)
    this.sources.forget()
    yield* this.measure()
    const numbers = yield* this.sources.number(sources)
    const unexplained = yield* this.dropUnexplained()
    const { tables: changed, bare, statements } = yield* this.compare(numbers, tables)
    for (const sql of statements) yield* run(sql)
    return { tables: lost || unexplained ? tablesOn(sources) : changed, bare, statements: [...own, ...statements] }
  }

  *changes(sources: readonly TouchSource[], tables: ReadonlyMap<string, HostTable>): Work<Changes> {
    const { statements: own, lost } = yield* this.ownTables(sources)
    const { tables: changed, bare, statements } = yield* this.compare((yield* this.sources.numbersOf(sources)).numbers, tables)
    return { tables: lost ? tablesOn(sources) : changed, bare, statements: [...own, ...statements] }
  }

  /** The triggers that there are against those that there should be; changes nothing. */
  private *compare(numbers: ReadonlyMap<TouchSource, number>, tables: ReadonlyMap<string, HostTable>): Work<Changes> {
    const wanted = new Map<string, { readonly table: string; readonly sql: string }>()
    for (const [table, group] of Map.groupBy(numbers, ([source]) => source.on)) {
      const numbered = group.map(([source, number]): NumberedSource => ({ source: number, columns: source.columns, root: isOwnKey(source) }))
      for (const [trigger, sql] of triggersFor(tables.get(table) as HostTable, numbered)) wanted.set(trigger, { table, sql })
    }
    const triggers = yield* this.triggers()
    const present = new Map(triggers.map(({ name, sql, overtaken }) => [name, overtaken === 1 ? undefined : sql]))
    const watched = new Set(triggers.map(({ on_table }) => fold(on_table)))
    const missing = [...wanted].filter(([name, { sql }]) => present.get(name) !== sql).map(([, trigger]) => trigger)
    const surplus = [...present].filter(([name, sql]) => wanted.get(name)?.sql !== sql).map(([name]) => name)
    return {
      tables: new Set(missing.map(({ table }) => table)),
      bare: new Set(missing.map(({ table }) => table).filter((table) => !watched.has(fold(table)))),
      statements: [...surplus.map((name) => `DROP TRIGGER ${quote(name)}`), ...missing.map(({ sql }) => sql)],
    }
  }

  *findings(sources: readonly TouchSource[], tables: ReadonlyMap<string, HostTable>): Work<readonly Finding[]> {
    const findings: Finding[] = []
    for (const [name, group] of Map.groupBy(sources, (source) => source.on)) {
      const table = tables.get(name) as HostTable
      const numbered = group.map((source): NumberedSource => ({ source: 0, columns: source.columns, root: isOwnKey(source) }))
      for (const [sql, width] of lookupsInTheWay(table, numbered)) {
        const reads = yield* this.readsOf(sql, width)
        if (reads instanceof TillsyncError) findings.push(unknownReplace(name, reads))
        else if (reads.some(({ whole }) => whole)) findings.push(slowReplace(name))
      }
      for (const index of table.expressionUniques ?? []) findings.push(unseenReplace(name, index))
    }
    return [...findings, ...(this.host === undefined ? [] : connectionFindings(this.host))]
  }

  /** An error where our connection lacks a function that the condition of an index has. */
  private *readsOf(sql: string, width: number): Work<readonly TableRead[] | TillsyncError> {
    try {
      return yield* inspect({ sql, parameters: [] }, width)
    } catch (error) {
      if (!(error instanceof TillsyncError) || error.retryable) throw error
      return error
    }
  }

  *removeTriggers(): Work<void> {
    for (const { name } of yield* this.triggers()) yield* run(`DROP TRIGGER ${quote(name)}`)
  }

  *schemaVersion(): Work<string> {
    const sql = `SELECT schema_version || ' ' || coalesce((SELECT value FROM ${STATE.name} WHERE key = '${RULES}'), '') AS version FROM pragma_schema_version`
    const [row] = (yield* run(sql)) as readonly { version: string }[]
    return row?.version ?? ''
  }

  *uninstall(): Work<void> {
    yield* this.removeTriggers()
    yield* run('DROP TABLE IF EXISTS sync_touches')
    yield* run(`DROP TABLE IF EXISTS ${SOURCES.name}`)
    this.sources.forget()
    this.width = 0
  }

  *touched(): Work<boolean> {
    return (yield* run('SELECT 1 FROM sync_touches LIMIT 1')).length > 0
  }

  lookAgain(): void {} // each look is

  *countTouches(): Work<number> {
    const [row] = (yield* run('SELECT count(*) AS touches FROM sync_touches')) as readonly { touches: number }[]
    return row?.touches ?? 0
  }

  *mark(): Work<number> {
    const [row] = (yield* run('SELECT max(touch) AS last FROM sync_touches')) as readonly { last: number | null }[]
    return row?.last ?? 0
  }

  *takeTouches(limit: number): Work<TakenTouches> {
    if (this.width === 0) yield* this.measure()
    const most = Math.max(LEAST_READ, limit * ALIKE)
    const rows = (yield* lookup(
      { sql: `SELECT touch, source, kind, ${keyColumns(this.width).join(', ')} FROM sync_touches ORDER BY touch LIMIT ?`, parameters: [] },
      [[most]],
    ))[0] as readonly Key[]
    const touches: Touch[] = []
    let before: Key = []
    for (const row of rows) {
      if (row.every((value, at) => at === 0 || Object.is(value, before[at]))) {
        before = row
        continue
      }
      if (touches.length === limit) break
      before = row
      const [, number, kind, ...key] = row
      const meaning = this.sources.known(Number(number)) ?? (yield* this.sources.meaningOf(Number(number)))
      touches.push({ ...meaning, kind: KINDS[Number(kind)] as TouchKind, key: key.slice(0, meaning.refers.length) })
    }
    return {
      touches,
      more: rows.length === most || (rows.length > 0 && before !== rows.at(-1)),
      through: Number(before[0] ?? 0),
      *forget() {
        if (touches.length > 0) yield* run('DELETE FROM sync_touches WHERE touch <= ?', [before[0]])
      },
    }
  }

  *touch(table: string, refers: readonly string[], keys: readonly Key[], kind: TouchKind): Work<void> {
    const source = (yield* this.sources.number([{ on: table, columns: refers, table, refers }])).values().next().value as number
    const into = `INSERT INTO sync_touches (${['source', 'kind', ...keyColumns(refers.length)].join(', ')})`
    for (const key of keys) {
      const values = key.map((value) => (value instanceof InvalidText ? 'CAST(? AS TEXT)' : '?'))
      const bound = key.map((value) => (value instanceof InvalidText ? value.bytes : value))
      yield* run(`${into} VALUES (${['?', '?', ...values].join(', ')})`, [source, KINDS.indexOf(kind), ...bound])
    }
  }

  *touchSelected(table: string, refers: readonly string[], select: Statement, kind: TouchKind): Work<void> {
    const source = (yield* this.sources.number([{ on: table, columns: refers, table, refers }])).values().next().value as number
    const into = `INSERT INTO sync_touches (${['source', 'kind', ...keyColumns(refers.length)].join(', ')})`
    yield* run(`${into} SELECT ${source}, ${KINDS.indexOf(kind)}, selected.* FROM (${select.sql}) AS selected`, select.parameters)
  }

  /**
   * Where somebody renames sync_touches, SQLite writes the new name into our triggers. `overtaken`: the host has made a trigger behind ours
   * that may end with RAISE(IGNORE). SQLite runs the youngest first, and after it none of the others, though the row is changed; so ours are
   * made anew.
   */
  private *triggers(): Work<readonly Trigger[]> {
    return (yield* run(
      `WITH ignoring AS MATERIALIZED (
         SELECT lower(other.tbl_name) AS on_table, max(other.rowid) AS last FROM sqlite_schema AS other
         WHERE other.type = 'trigger' AND other.sql LIKE '%RAISE%IGNORE%' AND NOT (${isOurs('other')}) GROUP BY 1)
       SELECT own.name, own.tbl_name AS on_table, own.sql, EXISTS (SELECT 1 FROM ignoring WHERE on_table = lower(own.tbl_name) AND last > own.rowid) AS overtaken
       FROM sqlite_schema AS own WHERE own.type = 'trigger' AND ${isOurs('own')}`,
    )) as readonly Trigger[]
  }

  /** What makes sync_sources and sync_touches, or what somebody has made of them anew; and whether touches may have been lost. */
  private *ownTables(sources: readonly TouchSource[]): Work<{ readonly statements: readonly string[]; readonly lost: boolean }> {
    const width = Math.max(1, ...sources.map((source) => source.refers.length))
    const explained = yield* hasTable(SOURCES.name)
    yield* this.measure()
    const sound = yield* this.isSound()
    const missing = keyColumns(width).slice(this.width)
    return {
      lost: !(explained && sound),
      statements: [
        ...(explained ? [] : createTable(SOURCES)),
        ...(!sound && (yield* hasTable('sync_touches')) ? ['DROP TABLE sync_touches'] : []),
        ...(sound ? missing.map((column) => `ALTER TABLE sync_touches ADD COLUMN ${column}`) : [touchesTable(width)]),
      ],
    }
  }

  /** Whether sync_touches is as we made it: a column less, an index or a trigger more, and sales fail by it. */
  private *isSound(): Work<boolean> {
    const made = (yield* run(`SELECT type, sql FROM sqlite_schema WHERE tbl_name = 'sync_touches'`)) as readonly { type: string; sql: string }[]
    return made.length === 1 && made[0]?.type === 'table' && made[0].sql === touchesTable(this.width)
  }

  /** Touches that no source explains lead nowhere, and nothing behind them would be taken. */
  private *dropUnexplained(): Work<boolean> {
    const where = `WHERE source IS NULL OR source NOT IN (SELECT source FROM ${SOURCES.name})`
    if ((yield* run(`SELECT 1 FROM sync_touches ${where} LIMIT 1`)).length === 0) return false
    yield* run(`DELETE FROM sync_touches ${where}`)
    return true
  }

  private *measure(): Work<void> {
    const columns = (yield* run(`SELECT name FROM pragma_table_info('sync_touches') WHERE name GLOB 'k[0-9]*'`)) as readonly unknown[]
    this.width = columns.length
  }
}

interface Trigger {
  readonly name: string
  readonly on_table: string
  readonly sql: string
  readonly overtaken: number
}

function isOurs(trigger: string): string {
  return `${trigger}.name LIKE 'sync\\_%' ESCAPE '\\' AND (${trigger}.sql LIKE '%INSERT INTO sync_touches%' OR ${trigger}.sql LIKE '%INSERT INTO % (source, kind, %')`
}

function tablesOn(sources: readonly TouchSource[]): ReadonlySet<string> {
  return new Set(sources.map(({ on }) => on))
}
