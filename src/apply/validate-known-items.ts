import { TillsyncError } from '../errors.ts'
import type { HostColumn } from '../host-table.ts'
import type { AnyDocument } from '../model.ts'
import { known } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { castOf } from './column-cast.ts'
import type { Check, ColumnByPart, FoundProblem } from './validate.ts'

export interface KnownItemsOptions<D = AnyDocument> {
  /** Columns that name an item, by the tables of parts: `{ receipt_lines: 'item_no' }`. */
  readonly items: ColumnByPart<D>
  /** Where central has its items, and their number there: `{ table: 'items', column: 'item_no' }`. */
  readonly in: { readonly table: string; readonly column: string }
}

/**
 * A check that central knows all items of a document, by one statement for a set of documents. NULL names no item. A document with an unknown one is ERR_UNKNOWN_ITEM, and
 * is tried again when other documents have come, and by itself.
 *
 * @throws ERR_OPTION
 */
export function knownItems<D = AnyDocument>(options: KnownItemsOptions<NoInfer<D>>): Check<D> {
  checkOptions(options as KnownItemsOptions)
  const { table, column } = options.in
  const columns = new WeakMap<ApplyingDatabase, HostColumn>()
  const columnIn = function* (database: ApplyingDatabase): Work<HostColumn> {
    const there = columns.get(database) ?? (yield* findColumn(database, table, column))
    columns.set(database, there)
    return there
  }
  return {
    name: 'knownItems',
    *check(database) {
      columns.set(database, yield* findColumn(database, table, column))
    },
    *problems(documents, { database }) {
      const named = documents.map((document) => itemsOf(document.value as AnyDocument, options.items as Readonly<Record<string, string>>))
      const unknown = yield* unknownOf(database, table, yield* columnIn(database), new Set(named.flat()))
      return named.map((items) => problemOf(items.filter((item) => unknown.has(item))))
    },
  }
}

function problemOf(unknown: readonly string[]): FoundProblem | undefined {
  if (unknown.length === 0) return undefined
  const shown = [...new Set(unknown)].slice(0, 10).map((item) => `'${item}'`)
  return {
    code: 'ERR_UNKNOWN_ITEM',
    message: `Central does not know ${unknown.length === 1 ? 'the item' : 'the items'} ${shown.join(', ')}${unknown.length > 10 ? ' …' : ''}`,
    hint: 'Add what is missing: the document is tried again by itself.',
    waits: true,
  }
}

function itemsOf(document: AnyDocument, columns: Readonly<Record<string, string>>): string[] {
  return Object.entries(columns).flatMap(([table, column]) =>
    (document.parts[table] ?? []).flatMap((row) => {
      const item: unknown = row[column]
      return item === null || item === undefined ? [] : [String(item)]
    }),
  )
}

const WHOLE: Readonly<Record<string, bigint>> = { smallint: 2n ** 15n, integer: 2n ** 31n, bigint: 2n ** 63n }

/** Texts that other types take. */
const TAKEN: Readonly<Record<string, RegExp>> = {
  numeric: /^-?\d{1,100}(?:\.\d{1,100})?$/,
  uuid: /^[0-9a-f]{8}(?:-?[0-9a-f]{4}){3}-?[0-9a-f]{12}$/i,
}

/** Compared in the column's own type, so that its index is used; what can't be of that type is not known. */
function* unknownOf(database: ApplyingDatabase, table: string, column: HostColumn, items: ReadonlySet<string>): Work<ReadonlySet<string>> {
  const plain = column.base ?? column.type
  const [limit, taken] = [WHOLE[plain], TAKEN[plain]]
  const fits = (item: string): boolean =>
    limit === undefined ? (taken?.test(item) ?? true) : /^-?\d{1,19}$/.test(item) && BigInt(item) < limit && BigInt(item) >= -limit
  const [asked, unfit] = [[...items].filter(fits), [...items].filter((item) => !fits(item))]
  if (asked.length === 0) return new Set(unfit)
  const quoted = `"${column.name.replaceAll('"', '""')}"`
  const rows = yield* query<{ item: string }>({
    sql: `SELECT s.item FROM unnest($1::text[]) AS s(item) WHERE NOT EXISTS (SELECT FROM ${database.qualify(table)} t WHERE t.${quoted} = s.item::${castOf(column)})`,
    parameters: [asked.map((item) => item.replaceAll('\0', '\uFFFD'))],
  })
  return new Set([...unfit, ...rows.map(({ item }) => item)])
}

function* findColumn(database: ApplyingDatabase, name: string, column: string): Work<HostColumn> {
  const table = (yield* database.describe([name])).get(name)
  if (table === undefined)
    throw new TillsyncError('ERR_UNKNOWN_TABLE', `knownItems() has no table \`${name}\` to look in`, { context: { table: name } })
  const found = table.columns.find((one) => one.name === column)
  if (found !== undefined) return found
  throw new TillsyncError('ERR_UNKNOWN_COLUMN', `\`${name}\` has no column \`${column}\``, {
    hint: `There are: ${table.columns.map((one) => one.name).join(', ')}.`,
    context: { table: name, column },
  })
}

function checkOptions(options: KnownItemsOptions): void {
  const hint = "knownItems({ items: { receipt_lines: 'item_no' }, in: { table: 'items', column: 'item_no' } })"
  const isText = (value: unknown): boolean => typeof value === 'string' && value !== ''
  if (typeof options !== 'object' || options === null) throw new TillsyncError('ERR_OPTION', 'knownItems() expects an object', { hint })
  known('knownItems', options, ['items', 'in'])
  const { items, in: where } = options
  const isItems = typeof items === 'object' && items !== null && Object.keys(items).length > 0 && Object.values(items).every(isText)
  if (!isItems) throw new TillsyncError('ERR_OPTION', 'knownItems() expects `items` to be columns by table', { hint })
  if (typeof where !== 'object' || where === null || !isText(where.table) || !isText(where.column))
    throw new TillsyncError('ERR_OPTION', 'knownItems() expects `in` to be a table and a column of it', { hint })
  known('knownItems.in', where, ['table', 'column'])
}
