import Database from 'better-sqlite3'
import type { Books } from './books.ts'
import type { Shop } from './shops.ts'

/** A till whose rows are compared. */
export interface ComparedTill {
  readonly name: string
  readonly register: string
  readonly shop: Shop
  readonly file: string
}

/** What head office has of a table for a till, and what the till has: how many rows, and which differ. */
export interface Copy {
  readonly register: string
  readonly table: string
  readonly wanted: number
  readonly found: number
  readonly missing: readonly string[]
  readonly tooMuch: readonly string[]
  readonly different: readonly string[]
}

interface Published {
  readonly key: readonly string[]
  readonly columns: readonly string[]
  /** Which of its rows are for `till`: what the filter should come to, in words of our own. */
  readonly forTill: string
}

/** Every table that head office publishes. Those of two owners are compared with the columns of both. */
const TABLES: Readonly<Record<string, Published>> = {
  items: { key: ['item_no'], columns: ['description', 'unit_price'], forTill: 'JOIN assortments USING (item_no) JOIN till USING (location)' },
  price_lists: { key: ['list_id'], columns: ['price_group', 'name'], forTill: 'JOIN till USING (price_group)' },
  price_list_lines: {
    key: ['list_id', 'item_no'],
    columns: ['unit_price', 'valid_from', 'valid_to'],
    forTill: 'JOIN price_lists USING (list_id) JOIN till USING (price_group)',
  },
  internal_orders: { key: ['id'], columns: ['ordered_on', 'status', 'confirmed_at'], forTill: 'JOIN till USING (location, register)' },
  internal_order_lines: {
    key: ['id'],
    columns: ['order_id', 'line_no', 'item_no', 'quantity', 'confirmed_quantity'],
    forTill: 'JOIN till USING (location, register)',
  },
}

/** One row, named `till`. */
export const TILL = 'till AS (SELECT $1::text AS location, $2::text AS register, $3::text AS price_group)'

export function valuesOf({ register, shop }: ComparedTill): readonly string[] {
  return [shop.location, register, shop.priceGroup]
}

/** Compares what the tills have with what head office has for them, row by row and column by column. */
export async function compareCopies(books: Books, tills: readonly ComparedTill[]): Promise<readonly Copy[]> {
  const copies: Copy[] = []
  for (const till of tills) {
    const database = new Database(till.file, { readonly: true })
    try {
      for (const [table, published] of Object.entries(TABLES)) {
        const { key, columns, forTill } = published
        const names = [...key, ...columns]
        const wanted = await books.rows(`WITH ${TILL} SELECT ${names.map(textOf)} FROM ${table} t ${forTill}`, ...valuesOf(till))
        const found = database.prepare(`SELECT ${names} FROM ${table}`).all() as Rows
        copies.push({ register: till.register, table, ...compare(table, published, wanted, found) })
      }
    } finally {
      database.close()
    }
  }
  return copies
}

type Rows = readonly Readonly<Record<string, string | number | null>>[]

function textOf(column: string): string {
  const iso = `to_char(confirmed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
  return column === 'confirmed_at' ? `${iso} AS confirmed_at` : `t.${column}::text`
}

function compare(table: string, { key, columns }: Published, wanted: Rows, found: Rows): Omit<Copy, 'register' | 'table'> {
  const keyed = (rows: Rows) =>
    new Map(rows.map((row) => [`${table} ${key.map((name) => row[name]).join(' ')}`, columns.map((name) => `${name} ${row[name]}`).join(', ')]))
  const [there, here] = [keyed(wanted), keyed(found)]
  return {
    wanted: wanted.length,
    found: found.length,
    missing: [...there.keys()].filter((id) => !here.has(id)),
    tooMuch: [...here.keys()].filter((id) => !there.has(id)),
    different: [...there]
      .filter(([id, values]) => here.has(id) && here.get(id) !== values)
      .map(([id, values]) => `${id}: ${here.get(id)}, not ${values}`),
  }
}

export function differencesOf({ register, missing, tooMuch, different }: Copy): readonly string[] {
  const named = (what: string, ids: readonly string[]) => ids.map((id) => `${what} at ${register}: ${id}`)
  return [...named('missing', missing), ...named('too much', tooMuch), ...named('other values', different)]
}
