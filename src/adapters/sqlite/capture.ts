import { TillsyncError } from '../../errors.ts'
import {
  type Capture,
  type HostTable,
  insert,
  type Key,
  query,
  type Statement,
  type Touch,
  type TouchKind,
  type TouchSource,
  type Work,
} from '../../ports.ts'
import { createTable, hasTable } from './tables.ts'
import { KINDS, keyColumns, type NumberedSource, quote, SOURCES, touchesTable, triggersFor } from './triggers.ts'

const run = (sql: string, parameters: readonly unknown[] = []): Work<readonly unknown[]> => query({ sql, parameters })

/** Touches in an SQLite database: sync_touches, filled by triggers, emptied by the collector. */
export class SqliteCapture implements Capture {
  /** What the numbers in sync_touches mean, as far as they were read. */
  private known = new Map<number, { readonly table: string; readonly refers: readonly string[] }>()
  private width = 0;

  *install(sources: readonly TouchSource[], tables: ReadonlyMap<string, HostTable>): Work<ReadonlySet<string>> {
    yield* this.widen(Math.max(1, ...sources.map((source) => source.refers.length)))
    const numbers = yield* this.numberSources(sources)
    const wanted = new Map<string, string>()
    const tableOf = new Map<string, string>()
    for (const [name, group] of Map.groupBy(sources, (source) => source.on)) {
      const numbered: NumberedSource[] = group.map((source) => ({
        source: numbers.get(source) as number,
        columns: source.columns,
        root: source.on === source.table,
      }))
      for (const [trigger, sql] of triggersFor(tables.get(name) as HostTable, numbered)) {
        wanted.set(trigger, sql)
        tableOf.set(trigger, name)
      }
    }
    const present = new Map((yield* this.triggers()).map(({ name, sql }) => [name, sql]))
    const missing = [...wanted].filter(([name, sql]) => present.get(name) !== sql)
    for (const [name, sql] of present) if (wanted.get(name) !== sql) yield* run(`DROP TRIGGER ${quote(name)}`)
    for (const [, sql] of missing) yield* run(sql)
    return new Set(missing.map(([name]) => tableOf.get(name) as string))
  }

  *removeTriggers(): Work<void> {
    for (const { name } of yield* this.triggers()) yield* run(`DROP TRIGGER ${quote(name)}`)
  }

  *schemaVersion(): Work<string> {
    const [row] = (yield* run('SELECT schema_version AS version FROM pragma_schema_version')) as readonly { version: number }[]
    return String(row?.version)
  }

  *uninstall(): Work<void> {
    yield* this.removeTriggers()
    yield* run('DROP TABLE IF EXISTS sync_touches')
    yield* run(`DROP TABLE IF EXISTS ${SOURCES.name}`)
    this.known.clear()
    this.width = 0
  }

  *touched(): Work<boolean> {
    return (yield* run('SELECT 1 FROM sync_touches LIMIT 1')).length > 0
  }

  *countTouches(): Work<number> {
    const [row] = (yield* run('SELECT count(*) AS touches FROM sync_touches')) as readonly { touches: number }[]
    return row?.touches ?? 0
  }

  *takeTouches(limit: number): Work<readonly Touch[]> {
    if (this.width === 0) yield* this.measure()
    const taken = (yield {
      kind: 'lookup',
      sql: `SELECT touch, source, kind, ${keyColumns(this.width).join(', ')} FROM sync_touches ORDER BY touch LIMIT ?`,
      keys: [[limit]],
      parameters: [],
    }) as readonly (readonly Key[])[]
    const rows = taken[0] ?? []
    const last = rows.at(-1)
    if (last === undefined) return []
    yield* run('DELETE FROM sync_touches WHERE touch <= ?', [last[0]])
    const touches: Touch[] = []
    for (const [, source, kind, ...key] of rows) {
      const meaning = this.known.get(Number(source)) ?? (yield* this.meaningOf(Number(source)))
      touches.push({ ...meaning, kind: KINDS[Number(kind)] as TouchKind, key: key.slice(0, meaning.refers.length) })
    }
    return touches
  }

  *touch(table: string, refers: readonly string[], keys: readonly Key[], kind: TouchKind): Work<void> {
    const source = (yield* this.numberSources([{ on: table, columns: refers, table, refers }])).values().next().value as number
    const sql = `INSERT INTO sync_touches (${['source', 'kind', ...keyColumns(refers.length)].join(', ')}) VALUES (?, ?${', ?'.repeat(refers.length)})`
    for (const key of keys) yield* run(sql, [source, KINDS.indexOf(kind), ...key])
  }

  *touchSelected(table: string, refers: readonly string[], select: Statement, kind: TouchKind): Work<void> {
    const source = (yield* this.numberSources([{ on: table, columns: refers, table, refers }])).values().next().value as number
    const into = `INSERT INTO sync_touches (${['source', 'kind', ...keyColumns(refers.length)].join(', ')})`
    yield* run(`${into} SELECT ${source}, ${KINDS.indexOf(kind)}, selected.* FROM (${select.sql}) AS selected`, select.parameters)
  }

  private *meaningOf(source: number): Work<{ readonly table: string; readonly refers: readonly string[] }> {
    for (const row of (yield* run(`SELECT source, table_name, refers FROM ${SOURCES.name}`)) as readonly {
      source: number
      table_name: string
      refers: string
    }[]) {
      this.known.set(row.source, { table: row.table_name, refers: JSON.parse(row.refers) as string[] })
    }
    const meaning = this.known.get(source)
    if (meaning !== undefined) return meaning
    throw new TillsyncError('ERR_NOT_INSTALLED', `sync_touches holds source ${source}, which sync_sources does not explain`, {
      hint: 'Was sync_sources changed by hand? Run install(), then reseal the tables.',
      context: { source },
    })
  }

  private *numberSources(sources: readonly TouchSource[]): Work<ReadonlyMap<TouchSource, number>> {
    const rows = (yield* run(`SELECT source, table_name, refers FROM ${SOURCES.name}`)) as readonly {
      source: number
      table_name: string
      refers: string
    }[]
    const numbers = new Map(rows.map((row) => [`${row.table_name}\n${row.refers}`, row.source]))
    let next = Math.max(0, ...numbers.values()) + 1
    const result = new Map<TouchSource, number>()
    for (const source of sources) {
      const refers = JSON.stringify(source.refers)
      const name = `${source.table}\n${refers}`
      let number = numbers.get(name)
      if (number === undefined) {
        number = next++
        numbers.set(name, number)
        yield* insert(SOURCES, [[number, source.table, refers]])
      }
      result.set(source, number)
    }
    return result
  }

  private *triggers(): Work<readonly { name: string; sql: string }[]> {
    return (yield* run(
      `SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' AND name LIKE 'sync\\_%' ESCAPE '\\' AND sql LIKE '%INSERT INTO sync_touches%'`,
    )) as readonly {
      name: string
      sql: string
    }[]
  }

  private *widen(width: number): Work<void> {
    if (!(yield* hasTable(SOURCES.name))) for (const sql of createTable(SOURCES)) yield* run(sql)
    if (!(yield* hasTable('sync_touches'))) yield* run(touchesTable(width))
    yield* this.measure()
    for (const column of keyColumns(width).slice(this.width)) yield* run(`ALTER TABLE sync_touches ADD COLUMN ${column}`)
    this.width = Math.max(this.width, width)
  }

  private *measure(): Work<void> {
    const columns = (yield* run(`SELECT name FROM pragma_table_info('sync_touches') WHERE name GLOB 'k[0-9]*'`)) as readonly unknown[]
    this.width = columns.length
  }
}
