import type { Kysely } from 'kysely'
import { TillsyncError } from '../errors.ts'
import type { HostColumn, HostTable } from '../host-table.ts'
import type { AnyTables } from '../model.ts'
import { known } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { call, query, type Work } from '../work.ts'
import { castOf } from './column-cast.ts'
import type { ApplyContext } from './handler.ts'
import { hush, kindOf } from './mapping.ts'
import { MOVEMENT_MEASURES } from './movements.ts'
import type { Ledger, Posting } from './postings.ts'
import { SPECIMEN, type StockPosting, toStockPosting } from './stock-posting.ts'

/** What a column is given: text goes through the column's own input function, an object into a JSON column. */
export type LedgerValue = string | number | bigint | boolean | Date | Uint8Array | object | null | undefined

/** A table of the host's that takes a row for each posting. */
export interface LedgerTable {
  readonly table: string
  /** A pure function: the columns of the row, by name. One that is undefined gets its default. */
  readonly row: (posting: StockPosting) => Readonly<Record<string, LedgerValue>>
}

/** Writes the postings by itself, inside the transaction of the batch, which may be tried again: no effects but through `trx`. */
export type PostFunction = (postings: readonly StockPosting[], trx: Kysely<AnyTables>) => Promise<void>

/** The host's own ledger. */
export interface HostLedger extends Ledger {
  /** @throws ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN */
  check(database: ApplyingDatabase): Work<void>
}

/** @throws ERR_OPTION */
export function hostLedger(post: unknown, name: string | undefined): HostLedger {
  if (typeof post === 'function') return new FunctionLedger(post as PostFunction, name ?? 'post')
  if (typeof post !== 'object' || post === null) throw notAPost(post)
  known('stockMovements.post', post, ['table', 'row'])
  const { table, row } = post as LedgerTable
  if (typeof table !== 'string' || table === '' || typeof row !== 'function') throw notAPost(post)
  return new TableLedger({ table, row }, name ?? table)
}

function notAPost(got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `Expected \`stockMovements.post\` to be { table, row } or a function, got ${kindOf(got)}`, {
    hint: "post: { table: 'item_ledger_entries', row: (posting) => ({ item_no: posting.item, quantity: posting.quantity, … }) }",
  })
}

class FunctionLedger implements HostLedger {
  readonly measures = MOVEMENT_MEASURES
  readonly name: string
  private readonly post: PostFunction

  constructor(post: PostFunction, name: string) {
    this.post = post
    this.name = name
  }

  *check(): Work<void> {}

  *deliver(postings: readonly Posting[], context: ApplyContext): Work<void> {
    const all = postings.map((posting) => toStockPosting(posting, context))
    yield* call(async (trx) => this.post(all, trx))
  }
}

class TableLedger implements HostLedger {
  readonly measures = MOVEMENT_MEASURES
  readonly name: string
  private readonly post: LedgerTable
  private readonly tables = new WeakMap<ApplyingDatabase, HostTable>()

  constructor(post: LedgerTable, name: string) {
    this.post = post
    this.name = name
  }

  /** What columns a row has is known only from a row: one is made of a specimen. A function that can't take it is checked by the first posting. */
  *check(database: ApplyingDatabase): Work<void> {
    const table = yield* this.describe(database)
    let row: Readonly<Record<string, LedgerValue>>
    try {
      row = this.post.row(SPECIMEN)
    } catch {
      return
    }
    this.columnsOf(table, this.read(row))
  }

  *deliver(postings: readonly Posting[], context: ApplyContext): Work<void> {
    const { database } = context
    const rows = postings.map((posting) => this.read(this.post.row(toStockPosting(posting, context))))
    let table = this.tables.get(database) ?? (yield* this.describe(database))
    for (const [names, alike] of Map.groupBy(rows, (row) => JSON.stringify([...row.keys()].sort()))) {
      // The host may have added a column since we looked.
      if ((JSON.parse(names) as string[]).some((name) => !hasColumn(table, name))) table = yield* this.describe(database)
      const columns = this.columnsOf(table, alike[0] as Row)
      yield* this.insert(database, columns, alike)
    }
  }

  private *insert(database: ApplyingDatabase, columns: readonly HostColumn[], rows: readonly Row[]): Work<void> {
    if (columns.length === 0) throw this.unfit('a row without a column')
    const texts = columns.map((column) => rows.map((row) => this.toText(column, row.get(column.name))))
    yield* this.checkKept(columns, texts)
    const names = columns.map(({ name }) => quote(name))
    yield* query({
      sql: `INSERT INTO ${database.qualify(this.post.table)} (${names.join(', ')})
            SELECT ${columns.map((column, n) => `c${n}::${castOf(column)}`).join(', ')} FROM ${recordset(columns.length)}`,
      parameters: texts,
    })
  }

  /** What only PostgreSQL can say: whether a column keeps a value as it is. */
  private *checkKept(columns: readonly HostColumn[], texts: readonly (readonly (string | null)[])[]): Work<void> {
    const doubtful = columns.flatMap((column, n) => {
      const values = texts[n] ?? []
      return isDoubtful(column, values) ? [{ column, values }] : []
    })
    if (doubtful.length === 0) return
    const kept = doubtful.map(({ column }, n) => `coalesce(${keeps(column, `c${n}`)}, true)`)
    const [found] = yield* query<{ n: number }>({
      sql: `SELECT CASE ${kept.map((is, n) => `WHEN NOT ${is} THEN ${n}`).join(' ')} END AS n FROM ${recordset(doubtful.length)} WHERE NOT (${kept.join(' AND ')}) LIMIT 1`,
      parameters: doubtful.map(({ values }) => values),
    })
    const lossy = found && doubtful[found.n]?.column
    if (lossy) throw this.unfit(`more than \`${lossy.name}\` ${lossy.type} keeps`)
  }

  /** The columns of a row that are given a value. */
  private read(row: unknown): Row {
    if (typeof row !== 'object' || row === null || Array.isArray(row) || row instanceof Promise) {
      hush(row)
      throw this.unfit(`${kindOf(row)} for a row`)
    }
    return new Map(Object.entries(row).filter(([, value]) => value !== undefined))
  }

  private columnsOf(table: HostTable, row: Row): readonly HostColumn[] {
    return [...row.keys()].map((name) => {
      const column = table.columns.find((one) => one.name === name)
      if (column !== undefined) return column
      throw new TillsyncError('ERR_UNKNOWN_COLUMN', `\`${table.name}\` has no column \`${name}\`, which post.row() returns`, {
        hint: `It has: ${table.columns.map((one) => one.name).join(', ')}.`,
        context: { table: table.name, column: name },
      })
    })
  }

  private *describe(database: ApplyingDatabase): Work<HostTable> {
    const name = this.post.table
    const table = (yield* database.describe([name])).get(name)
    if (table === undefined) {
      throw new TillsyncError('ERR_UNKNOWN_TABLE', `stockMovements() has no table \`${name}\` to post to`, {
        hint: 'Create it at central.',
        context: { table: name },
      })
    }
    this.tables.set(database, table)
    return table
  }

  /** As the column's input function reads it. What the column would round is refused: the ledger must be what was posted. */
  private toText(column: HostColumn, value: LedgerValue): string | null {
    if (value === null || value === undefined) return null
    if (
      typeof value === 'string' ||
      typeof value === 'bigint' ||
      typeof value === 'boolean' ||
      (typeof value === 'number' && Number.isFinite(value))
    ) {
      const text = String(value)
      const places = PLACES.exec(column.type)?.[1]
      const point = text.indexOf('.')
      if (places !== undefined && PLAIN.test(text) && point >= 0 && text.replace(/0+$/, '').length - point - 1 > Number(places))
        throw this.unfit(`more places behind the point than \`${column.name}\` ${column.type} keeps`)
      return text
    }
    if (value instanceof Date && !Number.isNaN(value.getTime())) return value.toISOString()
    if (value instanceof Uint8Array) return `\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`
    hush(value)
    if (typeof value === 'object' && !(value instanceof Date) && !(value instanceof Promise) && /^jsonb?$/.test(column.base ?? column.type))
      return JSON.stringify(value)
    throw this.unfit(`${kindOf(value)} for \`${column.name}\` (${column.type})`)
  }

  private unfit(what: string): TillsyncError {
    return new TillsyncError('ERR_LEDGER', `post.row() for \`${this.post.table}\` returned ${what}`, {
      hint: 'It returns an object with values by column, at once: text, numbers, bigint, booleans, dates, bytes, null; objects for JSON columns.',
      context: { table: this.post.table },
    })
  }
}

type Row = ReadonlyMap<string, LedgerValue>

const PLACES = /^numeric\(\d+,(\d+)\)$/
const PLAIN = /^[-+]?\d*\.?\d*$/
/** Types of which PostgreSQL itself refuses what is too long, by assignment. */
const REFUSES = /^(character|bit)/

/** Whether the column may keep less than it is given, and nobody but PostgreSQL can say. */
function isDoubtful({ base, type }: HostColumn, values: readonly (string | null)[]): boolean {
  const plain = base ?? type
  if (plain === 'date') return values.some((text) => text !== null && text.length > DATE_LENGTH)
  if (INEXACT.includes(plain)) return true
  if (PLACES.test(type)) return values.some((text) => text !== null && !PLAIN.test(text))
  return type !== plain && !REFUSES.test(type)
}

const DATE_LENGTH = '2026-11-21'.length
const INEXACT = ['real', 'double precision', 'money']

/** SQL that holds where a value is the same in the column as it was given. */
function keeps(column: HostColumn, text: string): string {
  const { base, type } = column
  const plain = base ?? type
  if (plain === 'date') return `${text}::timestamp = ${text}::date`
  if (plain === 'money') return `CASE WHEN ${text} ~ '^[-+]?[0-9.]+$' THEN ${text}::numeric = ${text}::money::numeric END`
  // As it is shown: in the fewest digits that tell it from others.
  if (INEXACT.includes(plain)) return `${text}::numeric = ${text}::${castOf(column)}::text::numeric`
  const as = plain.startsWith('numeric') ? '' : '::text'
  return `${text}::${castOf(column)}${as} = (${text}::${castOf(column)}::${type})${as}`
}

/** Rows of text columns c0, c1 … */
function recordset(columns: number): string {
  const each = (write: (n: number) => string): string => Array.from({ length: columns }, (_, n) => write(n)).join(', ')
  return `unnest(${each((n) => `$${n + 1}::text[]`)}) AS r(${each((n) => `c${n}`)})`
}

function hasColumn(table: HostTable, name: string): boolean {
  return table.columns.some((column) => column.name === name)
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
