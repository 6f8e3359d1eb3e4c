import type { Notice } from '../../src/index.ts'
import type { Books } from './books.ts'
import { type ComparedTill, TILL, valuesOf } from './proof-published.ts'

/** One thing that an operator is told, or is to be told: of a record's column, what it was and what it is. */
export interface Telling {
  /** The table, and what happened to the record: 'items changed'. */
  readonly kind: string
  /** The key of the record. */
  readonly record: readonly string[]
  readonly text: string
}

/** What operators follow, by `[table, ...key, column]` as JSON: its value where it counts. */
export type Facts = ReadonlyMap<string, string>

/** What head office has for the operator of a till on a day: decided here in SQL, the library has no part in it. An order is followed once it is confirmed. */
export async function readFacts(books: Books, till: ComparedTill, day: string): Promise<Facts> {
  const rows = await books.rows(
    `WITH ${TILL}, item AS (SELECT items.* FROM items JOIN assortments USING (item_no) JOIN till USING (location))
     SELECT jsonb_build_array('items', item_no, 'description')::text AS fact, description AS value FROM item
     UNION ALL SELECT jsonb_build_array('items', item_no, 'unit_price')::text, unit_price::text FROM item
     UNION ALL SELECT jsonb_build_array('price_list_lines', list_id::text, item_no, 'unit_price')::text, unit_price::text
       FROM price_list_lines JOIN price_lists USING (list_id) JOIN till USING (price_group) WHERE $4::date BETWEEN valid_from AND valid_to
     UNION ALL SELECT jsonb_build_array('internal_orders', id::text, 'status')::text, status
       FROM internal_orders JOIN till USING (location, register) WHERE status <> 'new'`,
    ...[...valuesOf(till), day],
  )
  return new Map(rows.map(({ fact, value }) => [fact ?? '', value ?? '']))
}

/** What is to be told to somebody who knows the one and not yet the other. */
export function tellingsBetween(before: Facts, after: Facts): readonly Telling[] {
  const all = [...new Set([...before.keys(), ...after.keys()])]
  return all
    .filter((fact) => before.get(fact) !== after.get(fact))
    .map((fact) => {
      const [table = '', ...names] = JSON.parse(fact) as readonly string[]
      const old = before.get(fact) ?? (table === 'internal_orders' ? 'new' : undefined)
      return tellingOf(table, kindOf(table, old, after.get(fact)), names.slice(0, -1), names.at(-1) ?? '', old, after.get(fact))
    })
}

/** What a notice tells. */
export function tellingsOf({ table, kind, column, recordId, old, new: now }: Notice): readonly Telling[] {
  const record = recordId.map(String)
  if (column !== undefined) return [tellingOf(table, kind, record, column, old, now)]
  const [before, after] = [old, now] as readonly (Readonly<Record<string, unknown>> | null)[]
  return Object.keys(after ?? before ?? {}).map((name) => tellingOf(table, kind, record, name, before?.[name], after?.[name]))
}

/** Prices of a list come and go by their dates alone. */
function kindOf(table: string, old: string | undefined, now: string | undefined): Notice['kind'] {
  const byDate = table === 'price_list_lines'
  if (old === undefined) return byDate ? 'starts' : 'new'
  if (now === undefined) return byDate ? 'ends' : 'removed'
  return 'changed'
}

function tellingOf(table: string, kind: string, record: readonly string[], column: string, old: unknown, now: unknown): Telling {
  return { kind: `${table} ${kind}`, record, text: `${table} ${record.join(' ')}, ${column}: ${old ?? 'none'} → ${now ?? 'none'}` }
}

/** The label of each item of the till's shop, with the price that counts on a day. */
export async function readLabels(books: Books, till: ComparedTill, day: string): Promise<ReadonlyMap<string, string>> {
  const rows = await books.rows(
    `WITH ${TILL}, listed AS (
       SELECT item_no, l.unit_price FROM price_list_lines l JOIN price_lists USING (list_id) JOIN till USING (price_group) WHERE $4::date BETWEEN valid_from AND valid_to)
     SELECT item_no, description || ' ' || coalesce(l.unit_price, i.unit_price) AS label
     FROM items i JOIN assortments USING (item_no) JOIN till USING (location) LEFT JOIN listed l USING (item_no)`,
    ...[...valuesOf(till), day],
  )
  return new Map(rows.map(({ item_no, label }) => [item_no ?? '', label ?? '']))
}
