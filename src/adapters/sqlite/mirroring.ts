import { TillsyncError } from '../../errors.ts'
import { type Mirroring, type MirrorOthers, type MirrorRows, type MirrorTarget, type MirrorUpsert, mayGoFirst } from '../../mirroring.ts'
import { query, type Work } from '../../work.ts'
import { asides, type GivenUp, waysToGiveUp } from './aside.ts'
import { type Change, Deferral } from './deferral.ts'
import { brokenUnique, isConstraint, refusal } from './errors.ts'
import { bindable, place, RecordReader, type Stored } from './json-values.ts'
import { compare, differing, type Foreseen, look, type Portion, portionsOf, type Read, type Row, rowsOf, strays } from './mirror-reading.ts'
import type { Bound, MirrorStatements } from './mirror-statements.ts'
import { equal, type SqliteTarget, Targets, type UniqueIndex } from './targets.ts'
import { quote } from './triggers.ts'

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
        this.foreseen.set(rows, { ...read, found: yield* look(rows, read) })
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
        return yield* this.write(rows, read.statements, found ?? (yield* look(rows, read)))
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
      return yield* differing(rows)
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
    const gone = lost.length === 0 ? [] : (yield* compare(statements, lost)).missing
    for (const portion of [...insertions, ...portionsOf(statements, gone)]) {
      if (portion.rows.length > 1 && (yield* this.areInserted(statements, portion))) continue
      for (const row of portion.rows) {
        const insertion = statements.insertion([row])
        yield* this.writeRow('insert', statements, row, insertion.names, insertion)
      }
    }
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
    try {
      return yield* strays(of, columns, parents, kept)
    } catch (error) {
      throw refusal(error, of.table.name)
    }
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
