import { TillsyncError } from '../../errors.ts'
import { type Mirroring, type MirrorOthers, type MirrorRows, type MirrorTarget, type MirrorUpsert, mayGoFirst } from '../../mirroring.ts'
import { encodeText } from '../../record.ts'
import { lookup, query, type Work } from '../../work.ts'
import { asides, type GivenUp, waysToGiveUp } from './aside.ts'
import { type Change, Deferral } from './deferral.ts'
import { brokenUnique, isConstraint, refusal } from './errors.ts'
import { bindable, place, RecordReader, type Stored } from './json-values.ts'
import { type Bound, MirrorStatements } from './mirror-statements.ts'
import { portions } from './tables.ts'
import { equal, type SqliteTarget, Targets, type UniqueIndex } from './targets.ts'
import { quote } from './triggers.ts'
import { encodeValue } from './values.ts'

/** What a record's row is to hold, in the order of the statements' names. */
type Row = readonly Stored[]
type Changed = readonly [row: Row, names: readonly string[]]

/** Which of some rows are not there, and which are there otherwise, and in which columns. */
interface Comparison {
  readonly missing: readonly Row[]
  readonly changed: readonly Changed[]
}

/** New rows that go in together. */
interface Portion {
  readonly rows: readonly Row[]
  readonly insertion: Bound
}

interface Read {
  readonly statements: MirrorStatements
  readonly all: readonly Row[]
}

interface Foreseen extends Comparison {
  readonly insertions: readonly Portion[]
}

/**
 * Writes sealed records into tables: values become what their columns' affinities make of them, each row is compared by its key first, and only the columns that
 * differ are set. So no BEFORE INSERT trigger fires for a row that is there, and no index is written whose columns stay the same.
 *
 * What has failed is not undone: whoever goes on after an error has a savepoint to go back to, as on PostgreSQL.
 */
export class SqliteMirroring implements Mirroring {
  private readonly known: Targets
  private readonly deferral = new Deferral()
  /** Until the transaction ends. */
  private readonly foreseen = new Map<MirrorUpsert, Read & { readonly found: Foreseen }>()
  /** How many rows were changed on the connection when that was read, and by `upsert` since. */
  private changes = 0

  constructor(named: Set<string>) {
    this.known = new Targets(named)
  }

  /** There is another connection, to what may be another file. */
  forget(): void {
    this.known.forget()
  }

  /** Another transaction that may write begins. */
  begin(): void {
    this.deferral.begin()
    this.foreseen.clear()
  }

  /** The tables that the transaction has written. */
  get written(): readonly string[] {
    return this.deferral.names
  }

  targets(names: readonly string[]): Work<ReadonlyMap<string, MirrorTarget>> {
    return this.known.read(names)
  }

  /** Who wants to write waits from our first row on. */
  *foresee(all: readonly MirrorUpsert[]): Work<void> {
    this.changes = yield* changesOf()
    // Rows of one table may be the same row to SQLite: of those only the first are compared before others are written.
    for (const [table, [rows]] of Map.groupBy(
      all.filter(({ records }) => records.length > 0),
      (one) => one.table,
    )) {
      if (rows === undefined) continue
      const read = rowsOf(rows)
      try {
        this.foreseen.set(rows, { ...read, found: yield* this.look(rows, read) })
      } catch (error) {
        throw refusal(error, table.name)
      }
    }
  }

  *upsert(rows: MirrorUpsert): Work<void> {
    if (rows.records.length === 0) return
    const table = rows.table as SqliteTarget
    const foreseen = this.foreseen.get(rows)
    const read = foreseen ?? rowsOf(rows)
    // A trigger of the host's, or a foreign key's action, may have written to any table since.
    let found = foreseen && (yield* changesOf()) === this.changes ? foreseen.found : undefined
    const given = new Set<UniqueIndex>()
    while (true) {
      try {
        return yield* this.write(rows, read.statements, found ?? (yield* this.look(rows, read)))
      } catch (error) {
        found = undefined
        const said = brokenUnique(error)
        // Each unique value is given up once; what is still in the way then belongs to a row that stays as it is.
        const unique = table.uniqueIndexes.find((index) => index.said === said && !given.has(index))
        if (unique === undefined || !(yield* this.giveUp(rows, unique))) throw refusal(error, table.name)
        given.add(unique)
      }
    }
  }

  *differing(rows: Omit<MirrorUpsert, 'others'>): Work<readonly string[]> {
    if (rows.records.length === 0) return []
    try {
      const statements = new MirrorStatements(rows)
      const reader = new RecordReader(rows, statements.names)
      const all = new Map(rows.records.map((record) => [reader.read(record) as Row, record]))
      const { missing, changed } = yield* this.compare(statements, [...all.keys()])
      const differing = [...(rows.rows === 'update' ? [] : missing), ...changed.map(([row]) => row)]
      return differing.map((row) => all.get(row) as string)
    } catch (error) {
      throw refusal(error, rows.table.name)
    }
  }

  /** What was written when it was tried before does not differ any more. */
  private *write(rows: MirrorUpsert, statements: MirrorStatements, { changed, insertions }: Foreseen): Work<void> {
    // Rows that are there come first: they may give up unique values that new ones have.
    const lost: Row[] = []
    for (const [row, names] of changed)
      if ((yield* this.writeRow('update', statements, row, names, statements.update(row, names))) === 0) lost.push(row)
    if (rows.rows === 'update') return
    // A trigger of the host's may have deleted a row as another one was written, or have kept it as it is.
    const gone = lost.length === 0 ? [] : (yield* this.compare(statements, lost)).missing
    for (const portion of [...insertions, ...this.portions(statements, gone)]) {
      if (portion.rows.length > 1 && (yield* this.areInserted(statements, portion))) continue
      for (const row of portion.rows) {
        const insertion = statements.insertion([row])
        yield* this.writeRow('insert', statements, row, insertion.names, insertion)
      }
    }
  }

  /** What is to be written, and the statements that are known by then. */
  private *look({ rows }: MirrorUpsert, { statements, all }: Read): Work<Foreseen> {
    const compared = yield* this.compare(statements, all)
    return { ...compared, insertions: rows === 'update' ? [] : this.portions(statements, compared.missing) }
  }

  private portions(statements: MirrorStatements, rows: readonly Row[]): readonly Portion[] {
    for (const row of rows) this.checkKey(statements.table, statements.keyOf(row))
    return portions(rows, statements.width).map((some) => ({ rows: some, insertion: statements.insertion(some) }))
  }

  /** Inserts them by one statement; false where one of them is refused, and it does not show which. */
  private *areInserted(statements: MirrorStatements, { rows, insertion }: Portion): Work<boolean> {
    const { table } = statements
    const keys = () => rows.map((row) => statements.keyOf(row))
    try {
      this.changes += yield* this.deferral.insertAll(table, insertion.names, keys, () => run(insertion))
      return true
    } catch (error) {
      if (isConstraint(error)) return false
      throw error
    }
  }

  private *writeRow(kind: Change['kind'], statements: MirrorStatements, row: Row, names: readonly string[], bound: Bound): Work<number> {
    const { table } = statements
    const values = table.isDeferrable ? statements.valuesOf(row, names) : NONE
    const written = yield* this.change({ kind, target: table, by: table.key, key: statements.keyOf(row), values }, bound)
    this.changes += written
    return written
  }

  private *compare(statements: MirrorStatements, all: readonly Row[]): Work<Comparison> {
    const found = new Map<Row, readonly unknown[]>()
    for (const [sql, alike] of Map.groupBy(
      all.map((row) => ({ row, ...statements.comparison(row) })),
      (comparison) => comparison.sql,
    )) {
      const keys = alike.map(({ parameters }) => parameters)
      for (const [at, [there]] of (yield* lookup({ sql, parameters: [] }, keys)).entries()) if (there) found.set(alike[at]?.row as Row, there)
    }
    // Keys that are equal to SQLite though their texts differ, as 'abc' and 'ABC', are one row: the last of them is taken.
    const last = new Map<string, Changed>()
    for (const [row, there] of found) last.set(identity(there.slice(0, statements.table.key.length)), [row, statements.changes(row, there)])
    return { missing: all.filter((row) => !found.has(row)), changed: [...last.values()].filter(([, names]) => names.length > 0) }
  }

  /** NULL equals nothing, so that the row would come again and again; or SQLite would number it. */
  private checkKey(table: SqliteTarget, key: Row): void {
    const at = key.indexOf(null)
    if (at === -1) return
    throw new TillsyncError('ERR_MIRROR', `\`${table.name}\` does not take a record: \`${table.key[at]}\`, of its key, is NULL`, {
      hint: 'By the key it is known which row a record is.',
      context: { table: table.name, column: table.key[at] },
    })
  }

  /** Takes a unique value from those rows that are to get another one, or to go; false where that can't be done. */
  private *giveUp(rows: MirrorUpsert, unique: UniqueIndex): Work<boolean> {
    let isDone = false
    for (const others of yield* rows.others()) {
      const ways = others.records.length === 0 ? [] : waysToGiveUp(others, unique)
      const tries = ways.map((way) => () => this.setAside(others, unique, way))
      if (mayGoFirst(others)) tries.push(() => this.remove(others))
      for (const attempt of tries) {
        if (!(yield* this.isGivenUp(attempt))) continue
        isDone = true
        break
      }
    }
    return isDone
  }

  private *isGivenUp(attempt: () => Work<void>): Work<boolean> {
    yield* statement('SAVEPOINT sync_unique')
    try {
      yield* attempt()
    } catch (error) {
      if (error instanceof TillsyncError ? error.retryable : !isConstraint(error)) throw error
      yield* undo('sync_unique')
      return false
    }
    yield* statement('RELEASE SAVEPOINT sync_unique')
    return true
  }

  private *setAside(others: MirrorOthers, unique: UniqueIndex, way: GivenUp): Work<void> {
    for (const { change, ...bound } of asides(others, unique, way)) yield* this.change(change, bound)
  }

  private change(change: Change, bound: Pick<Bound, 'sql' | 'parameters'>): Work<number> {
    return this.deferral.change(change, () => run(bound))
  }

  *remove(rows: MirrorRows): Work<void> {
    const table = rows.table as SqliteTarget
    const by = [...rows.columns, ...Object.keys(rows.constants)]
    const reader = new RecordReader(rows, by)
    try {
      for (const record of rows.records) {
        const key = reader.read(record)
        const sql = `DELETE FROM ${quote(table.name)} WHERE ${equal(table, by, (_, at) => place(key[at] as Stored))}`
        yield* this.change({ kind: 'delete', target: table, by, key, values: NONE }, { sql, parameters: key.map(bindable) })
      }
    } catch (error) {
      throw refusal(error, table.name)
    }
  }

  *strays(
    of: Pick<MirrorRows, 'table' | 'constants'>,
    columns: Readonly<Record<string, string>>,
    parents: MirrorRows,
    kept: readonly MirrorRows[],
  ): Work<readonly string[]> {
    const table = of.table as SqliteTarget
    const names = table.columns.map(({ name }) => name)
    try {
      const found = yield* this.found(table, names, Object.keys(columns), of.constants, parents, Object.values(columns))
      const own = (row: Row) => identity(table.key.map((name) => row[names.indexOf(name)]))
      const strays = new Map(found.map((row) => [own(row), row]))
      const key = table.key.filter((name) => !Object.hasOwn(of.constants, name))
      for (const rows of strays.size === 0 ? [] : kept)
        for (const one of yield* this.found(table, table.key, key, of.constants, rows, key)) strays.delete(identity(one))
      return [...strays.values()].map((row) => `{${names.map((name, at) => `${encodeText(name)}:${encodeValue(row[at])}`).join(',')}}`)
    } catch (error) {
      throw refusal(error, table.name)
    }
  }

  /** The rows, as far as `names`, whose columns `by` equal what records hold in `theirs`, and the constants. */
  private *found(
    table: SqliteTarget,
    names: readonly string[],
    by: readonly string[],
    constants: MirrorRows['constants'],
    rows: MirrorRows,
    theirs: readonly string[],
  ): Work<readonly Row[]> {
    const fixed = Object.keys(constants)
    const sql = `SELECT ${names.map(quote).join(', ')} FROM ${quote(table.name)} WHERE ${equal(table, [...by, ...fixed])}`
    const reader = new RecordReader(rows, theirs)
    const same = new RecordReader({ table, constants }, fixed).read('{}')
    const keys = rows.records.map((record) => [...reader.read(record), ...same])
    return (yield* lookup({ sql, parameters: [] }, keys)).flat() as readonly Row[]
  }

  *refusedBy(work: () => Work<void>): Work<string | undefined> {
    yield* statement('SAVEPOINT sync_reference')
    try {
      yield* work()
    } catch (error) {
      if (!(error instanceof TillsyncError) || error.code !== 'ERR_REFERENCE') throw error
      yield* undo('sync_reference')
      return String(error.context.constraint ?? 'a foreign key')
    }
    yield* statement('RELEASE SAVEPOINT sync_reference')
    return undefined
  }

  *defer(): Work<void> {
    this.deferral.allow()
    yield* []
  }

  settle(): Work<void> {
    return this.deferral.settle()
  }

  settleLater(): Work<void> {
    return this.settle()
  }
}

const NONE: ReadonlyMap<string, Stored> = new Map()

function rowsOf(rows: MirrorUpsert): Read {
  const statements = new MirrorStatements(rows)
  const reader = new RecordReader(rows, statements.names)
  return { statements, all: rows.records.map((record) => reader.read(record)) }
}

/** Rows that were ever changed on the connection, by whatever statement, trigger or foreign key. */
function* changesOf(): Work<number> {
  const [row] = yield* query<{ changes: number }>({ sql: 'SELECT total_changes() AS changes', parameters: [] })
  return row?.changes ?? 0
}

/** How many rows it returns. */
function* run({ sql, parameters }: Pick<Bound, 'sql' | 'parameters'>): Work<number> {
  return (yield* query({ sql, parameters })).length
}

function statement(sql: string): Work<number> {
  return run({ sql, parameters: [] })
}

function* undo(savepoint: string): Work<void> {
  yield* statement(`ROLLBACK TO SAVEPOINT ${savepoint}`)
  yield* statement(`RELEASE SAVEPOINT ${savepoint}`)
}

/** A key as it stands in the table, as text. */
function identity(key: readonly unknown[]): string {
  return key.map(encodeValue).join()
}
