import type { Pool } from 'pg'
import { type AnyDocument, type Movement, type Replayed, stockMovements } from '../../src/index.ts'
import { movementsAt, type Shop } from './shop.ts'

/** stockMovements() with a mapping that can be mended: each quantity counts `factor` times, and what names the item POISON can't be mapped where `isStrict`. */
export function mendable() {
  const state = { factor: 1, isStrict: false, calls: 0 }
  const movements = movementsAt('BA01')
  const mapping = (receipt: AnyDocument): Movement[] => {
    state.calls++
    const all = movements(receipt)
    if (state.isStrict && all.some(({ item }) => item === 'POISON')) throw new Error('the item is poison')
    return all.map((one) => ({ ...one, quantity: BigInt(one.quantity as string) * BigInt(state.factor) }))
  }
  return { state, mapping, handler: stockMovements(mapping) }
}

/** Nothing was done, but that so many documents were gone through. */
export function idle(documents: number): Replayed {
  return { documents, postings: 0, quarantined: 0, released: 0, refused: 0 }
}

/** All that is posted and mirrored, to the byte and the transaction that wrote it. */
export async function written(pool: Pool): Promise<readonly string[]> {
  const { rows: tables } = await pool.query<{ name: string }>(
    "SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'sync_registers' ORDER BY 1",
  )
  const parts = tables.map(({ name }) => `SELECT '${name} ' || t.xmin::text || ' ' || t::text AS row FROM ${name} t`)
  return (await pool.query<{ row: string }>(`${parts.join(' UNION ALL ')} ORDER BY 1`)).rows.map(({ row }) => row)
}

/** Posted sums by item, without those that come to nothing. */
export async function stocks({ pool }: Pick<Shop, 'pool'>): Promise<Readonly<Record<string, number>>> {
  const { rows } = await pool.query(
    'SELECT item_no, sum(quantity)::float8 AS quantity FROM stock_movements GROUP BY 1 HAVING sum(quantity) <> 0 ORDER BY 1',
  )
  return Object.fromEntries(rows.map(({ item_no, quantity }) => [item_no, quantity]))
}
