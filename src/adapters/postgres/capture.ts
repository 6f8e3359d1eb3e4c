import type { HostTable } from '../../host-table.ts'
import { RULES, STATE } from '../../migrate.ts'
import type { Finding } from '../../model.ts'
import { type Capture, type Changes, isOwnKey, type TakenTouches, type Touch, type TouchKind, type TouchSource } from '../../ports.ts'
import { SOURCES, TouchSources } from '../../touch-sources.ts'
import { type Key, query, type Statement, type Work } from '../../work.ts'
import { findingsOf } from './findings.ts'
import { Installation } from './installation.ts'
import { endOf, inOrder, type Seen, type TouchRow } from './order.ts'
import { createTable, quote } from './tables.ts'
import { KINDS, type NumberedSource, TOUCHED, TOUCHES, TOUCHES_SOUND, touchesTable } from './triggers.ts'
import { keyText } from './values.ts'

/** Touches that are taken at most, even where a transaction made more. */
const MOST = 5_000

/** Touches in a PostgreSQL database: sync_touches, filled by triggers, emptied by the collector. */
export class PostgresCapture implements Capture {
  private readonly schema: string
  private readonly installation: Installation
  private readonly sources: TouchSources
  /** The tables that the rules name, be they there or not. */
  private readonly watched = new Set<string>([TOUCHES])
  /** Touches of other transactions are taken: they had ended before we looked. */
  private pending = EVERYTHING
  private nextPending = EVERYTHING

  constructor(schema: string) {
    this.schema = schema
    this.installation = new Installation(schema)
    this.sources = new TouchSources(this.qualify(SOURCES.name), () => this.hasTable(SOURCES.name))
  }

  /** From now on `schemaVersion` tells of these tables too. */
  watch(tables: readonly string[]): void {
    for (const table of tables) this.watched.add(table)
  }

  /** A transaction in which touches were taken has ended. */
  ended(committed: boolean): void {
    this.pending = committed ? this.nextPending : EVERYTHING
    this.nextPending = this.pending
  }

  *prepare(tables: readonly string[]): Work<void> {
    if (!(yield* this.isSound())) yield* this.installation.lockFirst(tables)
  }

  *install(sources: readonly TouchSource[], tables: ReadonlyMap<string, HostTable>): Work<Changes> {
    const { statements: own, lost, untouched } = yield* this.ownTables()
    if (own.length > 0) yield* this.run(own.join(';\n'))
    this.sources.forget()
    this.lookAgain()
    const numbered = numberedByTable(sources, tables, yield* this.sources.number(sources))
    const { changed, bare, changes, refused } = yield* this.installation.bring(numbered, tables, untouched)
    const unexplained = yield* this.dropUnexplained()
    return { tables: lost || unexplained ? new Set(numbered.keys()) : changed, bare, statements: [...own, ...changes.map(({ sql }) => sql)], refused }
  }

  *changes(sources: readonly TouchSource[], tables: ReadonlyMap<string, HostTable>): Work<Changes> {
    const { statements: own, lost, untouched } = yield* this.ownTables()
    const { numbers } = yield* this.sources.numbersOf(sources)
    const numbered = numberedByTable(sources, tables, numbers)
    const { changed, bare, changes } = yield* this.installation.compare(numbered, tables, untouched)
    return { tables: lost ? new Set(numbered.keys()) : changed, bare, statements: [...own, ...changes.map(({ sql }) => sql)] }
  }

  findings(_sources: readonly TouchSource[], tables: ReadonlyMap<string, HostTable>): Work<readonly Finding[]> {
    return findingsOf(this.schema, [...tables.keys()])
  }

  /**
   * What makes sync_sources and sync_touches, or what somebody has made of them anew; whether touches may have been lost, and whether
   * there was nowhere to note one.
   */
  private *ownTables(): Work<{ readonly statements: readonly string[]; readonly lost: boolean; readonly untouched: boolean }> {
    const qualify = (name: string) => this.qualify(name)
    const explained = yield* this.hasTable(SOURCES.name)
    const sound = yield* this.isSound()
    return {
      lost: !(explained && sound),
      untouched: !sound,
      statements: [
        ...(explained ? [] : createTable(SOURCES, qualify)),
        ...(!sound && (yield* this.hasTable(TOUCHES)) ? [`DROP TABLE ${this.qualify(TOUCHES)}`] : []),
        ...(sound ? [] : touchesTable(qualify)),
      ],
    }
  }

  /** Touches that no source explains lead nowhere, and nothing behind them would be taken. */
  private *dropUnexplained(): Work<boolean> {
    const sql = `DELETE FROM ${this.qualify(TOUCHES)} WHERE source NOT IN (SELECT source FROM ${this.qualify(SOURCES.name)}) RETURNING 1`
    return (yield* this.run(sql)).length > 0
  }

  removeTriggers(): Work<void> {
    return this.installation.removeTriggers()
  }

  *uninstall(): Work<void> {
    yield* this.installation.removeTriggers()
    yield* this.installation.removeFunctions()
    for (const name of [TOUCHES, SOURCES.name]) yield* this.run(`DROP TABLE IF EXISTS ${this.qualify(name)}`)
    this.sources.forget()
  }

  /**
   * Every change of a table, a column, a trigger, its function or a partition leaves another row version in the catalogue; of rights counts what we have. Only the catalogue is read: `pg_partition_tree` would
   * lock partitions one after another, and wait for whoever has one for himself.
   */
  *schemaVersion(): Work<string> {
    const sql = `
      WITH RECURSIVE tables AS (SELECT c.oid, c.relowner FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                                WHERE n.nspname = $1 AND c.relname = ANY($2::text[]) AND c.relkind IN ('r', 'p')),
        parts AS (SELECT inhrelid AS oid FROM pg_inherits WHERE inhparent IN (SELECT oid FROM tables) AND NOT inhdetachpending
                  UNION SELECT i.inhrelid FROM parts p JOIN pg_inherits i ON i.inhparent = p.oid AND NOT i.inhdetachpending)
      SELECT md5(string_agg(version, ' ' ORDER BY version)) AS version FROM (
        SELECT concat(oid, has_table_privilege(oid, 'SELECT'), row_security_active(oid), pg_has_role(relowner, 'USAGE')) AS version FROM tables
        UNION ALL SELECT format('a%s', sum(a.xmin::text::bigint)) FROM pg_attribute a WHERE a.attrelid IN (SELECT oid FROM tables) AND a.attnum > 0
        UNION ALL SELECT format('d%s', sum(d.xmin::text::bigint)) FROM pg_attrdef d WHERE d.adrelid IN (SELECT oid FROM tables)
        UNION ALL SELECT format('i%s %s', count(*), sum(i.indexrelid::bigint)) FROM pg_index i WHERE i.indrelid IN (SELECT oid FROM tables)
        UNION ALL SELECT format('e%s', sum(e.xmin::text::bigint)) FROM pg_enum e
        UNION ALL SELECT format('p%s %s', count(*), sum(oid::bigint)) FROM parts
        UNION ALL SELECT format('t%s %s', count(*), sum(t.xmin::text::bigint)) FROM pg_trigger t
                  JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace f ON f.oid = p.pronamespace WHERE f.nspname = $1 AND starts_with(p.proname, 'sync_touch_')
        UNION ALL SELECT format('f%s', sum(p.xmin::text::bigint)) FROM pg_proc p JOIN pg_namespace f ON f.oid = p.pronamespace
                  WHERE f.nspname = $1 AND starts_with(p.proname, 'sync_touch_')
        UNION ALL SELECT format('r%s', value) FROM ${this.qualify(STATE.name)} WHERE key = '${RULES}'
        UNION ALL SELECT format('o%s', c.xmin) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = '${TOUCHES}'
      ) AS versions`
    const [row] = yield* query<{ version: string | null }>({ sql, parameters: [this.schema, [...this.watched]], keepsPlan: true })
    return row?.version ?? ''
  }

  *touched(): Work<boolean> {
    const { pending } = this
    const sql = `SELECT EXISTS (${this.poll().sql}) AS touched, ${SEEN}`
    const [seen] = yield* query<Seen & { touched: boolean }>({ sql, parameters: pending })
    if (seen === undefined || seen.touched) return true
    // Who watches is not to ask for everything until something is touched.
    if (pending === EVERYTHING && this.pending === pending) this.pending = this.nextPending = pendingBehind(seen)
    return false
  }

  /** Who puts back a backup row by row brings touches of long ago, and nothing else tells of them. */
  lookAgain(): void {
    this.pending = EVERYTHING
    this.nextPending = EVERYTHING
  }

  /** Asks by index (which ORDER BY makes sure of), and only for what can be new: cheap however many dead rows wait for a vacuum, and for how long a transaction is open. */
  poll(): Statement {
    return { sql: `SELECT 1 FROM (${this.either('xid', '', 1)}) AS pending LIMIT 1`, parameters: this.pending }
  }

  /** What can be new: of the transactions that were open when we last looked, and of those that have begun since. */
  private either(columns: string, where: string, limit: number): string {
    const some = (condition: string) => `(SELECT ${columns} FROM ${this.qualify(TOUCHES)} WHERE ${condition} ${where} ORDER BY xid LIMIT ${limit})`
    return `${some('xid >= $1::xid8')} UNION ALL ${some('xid = ANY ($2::xid8[])')}`
  }

  *countTouches(): Work<number> {
    const [row] = yield* query<{ touches: number }>({ sql: `SELECT count(*) AS touches FROM ${this.qualify(TOUCHES)}`, parameters: [] })
    return row?.touches ?? 0
  }

  *mark(): Work<number> {
    const [row] = yield* query<{ next: number }>({ sql: 'SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next', parameters: [] })
    return row?.next ?? 0
  }

  /**
   * Whole transactions, causes before effects: whatever a transaction may have seen of others has an id below the end of its
   * snapshot, so all up to there is taken with it.
   */
  *takeTouches(limit: number): Work<TakenTouches> {
    const { pending } = this
    const rows = [...(yield* this.take(limit))]
    const taken = countOf(rows)
    if (taken === limit) yield* this.takeCauses(rows)
    else if (this.pending === pending) this.nextPending = pendingBehind(rows[0] ?? ((yield* this.run(`SELECT ${SEEN}`))[0] as Seen))
    const touches: Touch[] = []
    for (const row of inOrder(rows)) {
      const meaning = this.sources.known(row.source) ?? (yield* this.sources.meaningOf(row.source))
      const key = row.key === null ? [] : (JSON.parse(row.key) as Key)
      // A key that is none was written by hand, or before the rules were what they are.
      touches.push({ ...meaning, kind: key.length === meaning.refers.length ? (KINDS[row.kind] as TouchKind) : 'whole', key })
    }
    return { touches, more: taken >= limit, through: rows.reduce((most, row) => Math.max(most, row.xid), 0), *forget() {} } // deleted as they were read
  }

  private *takeCauses(rows: TouchRow[]): Work<void> {
    for (let through = 0, taken = countOf(rows); taken < MOST; taken = countOf(rows)) {
      const end = rows.reduce((most, row) => Math.max(most, row.xid + 1, endOf(row.seen)), 0)
      if (end === through) return
      through = end
      rows.push(...(yield* this.take(MOST - taken, through)))
    }
  }

  /**
   * Touches that differ in nothing but their place are one. What is read is what is deleted: by where the rows lie, which nobody changes while our snapshot lasts. Where our own
   * transaction has touched what it takes, it touches it again from now on.
   */
  private take(limit: number, below?: number): Work<readonly TouchRow[]> {
    const columns = 'ctid AS place, cmin AS command, xid, seen, source, kind, key'
    const sql = `
      WITH taken AS MATERIALIZED (
             SELECT * FROM (${this.either(columns, below === undefined ? '' : 'AND xid < $3::xid8', limit)}) AS pending ORDER BY xid LIMIT ${limit}),
           gone AS (DELETE FROM ${this.qualify(TOUCHES)} WHERE ctid = ANY (ARRAY(SELECT place FROM taken)))
      SELECT xid::text::bigint, seen::text, min(command::text::bigint) AS command, min(place)::text AS place, source, kind, to_json(key)::text AS key,
             count(*) AS touches, ${SEEN}, set_config('${TOUCHED}', '', true)
      FROM taken GROUP BY xid, seen::text, source, kind, key`
    return query<TouchRow>({ sql, parameters: below === undefined ? this.pending : [...this.pending, below] })
  }

  *touch(table: string, refers: readonly string[], keys: readonly Key[], kind: TouchKind): Work<void> {
    if (keys.length === 0) return
    const source = yield* this.sourceOf(table, refers)
    const names = refers.map((_, at) => `k${at + 1}`)
    yield* this.run(
      `INSERT INTO ${this.qualify(TOUCHES)} (source, kind, key) SELECT $1, $2, ARRAY[${names.join(', ')}]
       FROM unnest(${names.map((_, at) => `$${at + 3}::text[]`).join(', ')}) AS keys(${names.join(', ')})`,
      [source, KINDS.indexOf(kind), ...refers.map((_, at) => keys.map((key) => keyText(key[at])))],
    )
  }

  *touchSelected(table: string, refers: readonly string[], select: Statement, kind: TouchKind): Work<void> {
    const source = yield* this.sourceOf(table, refers)
    const names = refers.map((_, at) => `k${at + 1}`)
    yield* this.run(
      `INSERT INTO ${this.qualify(TOUCHES)} (source, kind, key) SELECT ${source}, ${KINDS.indexOf(kind)}, ARRAY[${names.map((name) => `format('%s', ${name})`).join(', ')}]
       FROM (${select.sql}) AS selected(${names.join(', ')})`,
      select.parameters,
    )
  }

  private *sourceOf(table: string, refers: readonly string[]): Work<number> {
    return (yield* this.sources.number([{ on: table, columns: refers, table, refers }])).values().next().value as number
  }

  /** Whether there is somewhere to note a touch. */
  private *isSound(): Work<boolean> {
    return (yield* query({ sql: TOUCHES_SOUND, parameters: [this.schema] })).length > 0
  }

  private *hasTable(name: string): Work<boolean> {
    return (yield* query<{ oid: string | null }>({ sql: 'SELECT to_regclass($1) AS oid', parameters: [this.qualify(name)] }))[0]?.oid !== null
  }

  private run(sql: string, parameters: readonly unknown[] = []): Work<readonly unknown[]> {
    return query({ sql, parameters })
  }

  private qualify(name: string): string {
    return `${quote(this.schema)}.${quote(name)}`
  }
}

/** From which transaction on touches may be new, and which ones before that, as PostgreSQL reads an array. */
type Pending = readonly [from: string, open: string]

const EVERYTHING: Pending = ['0', '{}']

const SEEN = 'pg_current_snapshot()::text AS snapshot, pg_current_xact_id_if_assigned()::text AS own'

/** What a snapshot does not show. It shows our own transaction, whatever that may touch later on. */
function pendingBehind({ snapshot, own }: Seen): Pending {
  const [, end = '0', open = ''] = snapshot.split(':')
  return [end, `{${[open, own].filter((one) => one !== null && one !== '').join()}}`]
}

function countOf(rows: readonly TouchRow[]): number {
  return rows.reduce((sum, { touches }) => sum + touches, 0)
}

function numberedByTable(
  sources: readonly TouchSource[],
  tables: ReadonlyMap<string, HostTable>,
  numbers: ReadonlyMap<TouchSource, number>,
): ReadonlyMap<string, readonly NumberedSource[]> {
  const numbered = new Map<string, readonly NumberedSource[]>()
  for (const [name, group] of Map.groupBy(sources, (source) => source.on)) {
    const own = group.map((source): NumberedSource => {
      const columns = tables.get(source.table)?.columns ?? []
      const refers = source.refers.flatMap((refer) => columns.filter((column) => column.name === refer))
      return { source: numbers.get(source) as number, columns: source.columns, refers, root: isOwnKey(source) }
    })
    numbered.set(name, own)
  }
  return numbered
}
