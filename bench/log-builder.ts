import { LINES, ROWS } from './shop.ts'

/** A log as it is after years, made by the database itself from one sealed sale. */
export interface BuiltLog {
  readonly entries: number
  /** More than the log has documents: what was pruned is still a member. */
  readonly members: number
  /** The id of the last receipt in it; that of the sealed sale is the next. */
  readonly lastId: number
}

export interface SealedEntry {
  readonly table_name: string
  readonly record: string
}

/** What the dialects write in their own way. */
export interface LogDialect {
  /** A row source of the numbers from `first` to `last`, with the one column `no`. */
  series(first: number, last: number): string
  digestOf(expression: string): string
}

export const SQLITE_LOG: LogDialect = {
  series: (first, last) =>
    `(WITH RECURSIVE series (no) AS (VALUES (${first}) UNION ALL SELECT no + 1 FROM series WHERE no < ${last}) SELECT no FROM series)`,
  digestOf: () => 'randomblob(32)',
}

export const POSTGRES_LOG: LogDialect = {
  series: (first, last) => `generate_series(${first}::bigint, ${last}) AS numbers (no)`,
  digestOf: (expression) => `sha256(int8send(${expression}))`,
}

const DOCUMENTS_AT_A_TIME = 50_000
const SEALED_AT = '2026-01-15T10:00:00.000Z'

/**
 * The statements that turn a log that holds just one sealed sale into a large one: its entries with other ids, as many as
 * are wanted, and its members. The digests are no chain; nothing here reads them.
 */
export function* logStatements(dialect: LogDialect, sale: readonly SealedEntry[], { entries, members, lastId }: BuiltLog): Generator<string> {
  yield 'DELETE FROM sync_entries'
  yield 'DELETE FROM sync_members'
  yield 'CREATE TEMPORARY TABLE shapes (n bigint, table_name text, id_step bigint, id_offset bigint, record text)'
  yield `INSERT INTO shapes VALUES ${shapesOf(sale, lastId + 1).join(', ')}`
  const documents = Math.ceil(entries / ROWS)
  const before = `(no - ${lastId - documents + 1}) * ${ROWS}`
  for (const [first, last] of slices(lastId - documents + 1, lastId)) {
    const number = `${before} + n`
    const id = '((no - 1) * id_step + id_offset)'
    yield `INSERT INTO sync_entries (entry_no, table_name, operation, record_id, record, document, sealed_at, digest)
      SELECT ${number}, table_name, 'upsert', '[' || ${id} || ']', replace(replace(record, '#id', '' || ${id}), '#receipt', '' || no),
             '["receipts",[' || no || ']]', '${SEALED_AT}', ${dialect.digestOf(number)}
      FROM ${dialect.series(first, last)} CROSS JOIN shapes ORDER BY no, n`
  }
  for (const [first, last] of slices(lastId - members + 1, lastId)) {
    yield `INSERT INTO sync_members (table_name, record_id, hash, identity, state, entry_no)
      SELECT 'receipts', '[' || no || ']', ${dialect.digestOf('no')}, NULL, 'given', CASE WHEN no > ${lastId - documents} THEN ${before} + 1 ELSE 0 END FROM ${dialect.series(first, last)}`
  }
  yield 'DROP TABLE shapes'
}

function* slices(first: number, last: number): Generator<readonly [number, number]> {
  for (let from = first; from <= last; from += DOCUMENTS_AT_A_TIME) yield [from, Math.min(last, from + DOCUMENTS_AT_A_TIME - 1)]
}

function shapesOf(sale: readonly SealedEntry[], receipt: number): string[] {
  return sale.map(({ table_name, record }, at) => {
    const isLine = table_name === 'receipt_lines'
    const shape = record.replace(/"id":\d+/, '"id":#id').replace(`"receipt_id":${receipt}`, '"receipt_id":#receipt')
    return `(${at + 1}, '${table_name}', ${isLine ? LINES : 1}, ${isLine ? at : 1}, '${shape}')`
  })
}
