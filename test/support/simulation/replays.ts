import type { Pool } from 'pg'
import { Break } from '../differential/break.ts'
import { checkLedger } from './books.ts'
import type { Office } from './office.ts'

const RECEIPTS = { table: 'receipts' }

/** Nothing was mended: nothing is posted or sent to quarantine, and nothing that is mirrored goes. A lost sale may get back a line whose key was another one's for a while. */
export async function replayIdly({ central, pool }: Office): Promise<void> {
  const posted = await postedRows(pool)
  let mirrored = await mirroredRows(pool)
  for (;;) {
    const { documents, ...done } = await central.replay(RECEIPTS)
    if (Object.values(done).some((count) => count !== 0)) throw new Break('replayed', `Of ${documents} documents: ${JSON.stringify(done)}`)
    if (JSON.stringify(await postedRows(pool)) !== JSON.stringify(posted)) throw new Break('replayed', 'Something was posted')
    const now = new Set(await mirroredRows(pool))
    const gone = mirrored.filter((row) => !now.has(row))
    if (gone.length > 0) throw new Break('replayed copies', `Gone or changed: ${gone}`)
    if (now.size === mirrored.length) return
    mirrored = [...now]
  }
}

/** Head office's copies are lost and filled again. */
export async function refill({ central, pool }: Office): Promise<void> {
  await pool.query('DELETE FROM receipt_lines; DELETE FROM receipts')
  await central.replay(RECEIPTS)
}

/** The mapping is mended twice: exactly the differences are posted, for all that stands, wherever it stands; and those of before stay as they are. */
export async function checkMended(office: Office): Promise<void> {
  const { central, pool, mapping } = office
  await replayIdly(office)
  const before = await sums(pool)
  const rows = await postedRows(pool)
  for (const factor of [3, 1]) {
    mapping.factor = factor
    await central.replay(RECEIPTS)
    await checkLedger(office)
    const wanted = before.map(({ name, quantity }) => `${name} ${quantity * factor}`)
    const found = (await sums(pool)).map(({ name, quantity }) => `${name} ${quantity}`)
    if (JSON.stringify(found) !== JSON.stringify(wanted))
      throw new Break('mended', `Posted ${JSON.stringify(found)}\nwanted ${JSON.stringify(wanted)}`)
  }
  const now = new Set(await postedRows(pool))
  if (rows.some((row) => !now.has(row))) throw new Break('changed', 'A posted row was changed')
  await replayIdly(office)
}

/** Of each life of a document what it has posted. */
async function sums(pool: Pool): Promise<readonly { name: string; quantity: number }[]> {
  const { rows } = await pool.query(
    `SELECT concat_ws(' ', register_id, record_id, incarnation, item_no) AS name, sum(quantity)::float8 AS quantity FROM stock_movements
     GROUP BY register_id, record_id, incarnation, item_no HAVING sum(quantity) <> 0 ORDER BY 1`,
  )
  return rows
}

async function postedRows(pool: Pool): Promise<readonly string[]> {
  return textsOf(pool, 'SELECT m::text AS row FROM stock_movements m UNION ALL SELECT p::text FROM sync_postings p ORDER BY 1')
}

async function mirroredRows(pool: Pool): Promise<readonly string[]> {
  return textsOf(pool, "SELECT 'receipts ' || r::text AS row FROM receipts r UNION ALL SELECT l::text FROM receipt_lines l ORDER BY 1")
}

async function textsOf(pool: Pool, sql: string): Promise<readonly string[]> {
  return (await pool.query<{ row: string }>(sql)).rows.map(({ row }) => row)
}
