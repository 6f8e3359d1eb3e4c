import { TillsyncError } from '../../errors.ts'
import type { MirrorRows, MirrorTarget, MirrorUpsert } from '../../mirroring.ts'
import { encodeText } from '../../record.ts'
import { lookup, type Work } from '../../work.ts'
import { RecordReader, type Stored } from './json-values.ts'
import { type Bound, MirrorStatements } from './mirror-statements.ts'
import { portions } from './tables.ts'
import { equal, type SqliteTarget } from './targets.ts'
import { quote } from './triggers.ts'
import { encodeValue } from './values.ts'

/** What a record's row is to hold, in the order of the statements' names. */
export type Row = readonly Stored[]
type Changed = readonly [row: Row, names: readonly string[]]

/** Which of some rows are not there, and which are there otherwise, and in which columns. */
interface Comparison {
  readonly missing: readonly Row[]
  readonly changed: readonly Changed[]
}

/** New rows that go in together. */
export interface Portion {
  readonly rows: readonly Row[]
  readonly insertion: Bound
}

/** Records, read into rows. */
export interface Read {
  readonly statements: MirrorStatements
  readonly all: readonly Row[]
}

/** What is to be written, and the statements that are known by then. */
export interface Foreseen extends Comparison {
  readonly insertions: readonly Portion[]
}

export function rowsOf(rows: MirrorUpsert): Read {
  const statements = new MirrorStatements(rows)
  const reader = new RecordReader(rows, statements.names)
  return { statements, all: rows.records.map((record) => reader.read(record)) }
}

export function* look({ rows }: MirrorUpsert, { statements, all }: Read): Work<Foreseen> {
  const compared = yield* compare(statements, all)
  return { ...compared, insertions: rows === 'update' ? [] : portionsOf(statements, compared.missing) }
}

export function portionsOf(statements: MirrorStatements, rows: readonly Row[]): readonly Portion[] {
  for (const row of rows) checkKey(statements.table, statements.keyOf(row))
  return portions(rows, statements.width).map((some) => ({ rows: some, insertion: statements.insertion(some) }))
}

export function* compare(statements: MirrorStatements, all: readonly Row[]): Work<Comparison> {
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

/** Those of the records whose rows are not there, or otherwise. */
export function* differing(rows: Omit<MirrorUpsert, 'others'>): Work<readonly string[]> {
  const statements = new MirrorStatements(rows)
  const reader = new RecordReader(rows, statements.names)
  const all = new Map(rows.records.map((record) => [reader.read(record) as Row, record]))
  const { missing, changed } = yield* compare(statements, [...all.keys()])
  return [...(rows.rows === 'update' ? [] : missing), ...changed.map(([row]) => row)].map((row) => all.get(row) as string)
}

/** NULL equals nothing, so that the row would come again and again; or SQLite would number it. */
function checkKey(table: SqliteTarget, key: Row): void {
  const at = key.indexOf(null)
  if (at === -1) return
  throw new TillsyncError('ERR_MIRROR', `\`${table.name}\` does not take a record: \`${table.key[at]}\`, of its key, is NULL`, {
    hint: 'By the key it is known which row a record is.',
    context: { table: table.name, column: table.key[at] },
  })
}

/** The rows below `parents` that `kept` does not have, as records. @see Mirroring.strays */
export function* strays(
  { table, constants }: { readonly table: MirrorTarget; readonly constants: MirrorRows['constants'] },
  columns: Readonly<Record<string, string>>,
  parents: MirrorRows,
  kept: readonly MirrorRows[],
): Work<readonly string[]> {
  const target = table as SqliteTarget
  const names = target.columns.map(({ name }) => name)
  const found = yield* rowsBy(target, names, Object.keys(columns), constants, parents, Object.values(columns))
  const own = (row: Row) => identity(target.key.map((name) => row[names.indexOf(name)]))
  const strays = new Map(found.map((row) => [own(row), row]))
  const key = target.key.filter((name) => !Object.hasOwn(constants, name))
  for (const rows of strays.size === 0 ? [] : kept)
    for (const one of yield* rowsBy(target, target.key, key, constants, rows, key)) strays.delete(identity(one))
  return [...strays.values()].map((row) => `{${names.map((name, at) => `${encodeText(name)}:${encodeValue(row[at])}`).join(',')}}`)
}

/** The rows, as far as `names`, whose columns `by` equal what records hold in `theirs`, and the constants. */
function* rowsBy(
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

/** A key as it stands in the table, as text. */
function identity(key: readonly unknown[]): string {
  return key.map(encodeValue).join()
}
