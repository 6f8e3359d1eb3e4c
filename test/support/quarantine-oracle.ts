import type { Pool } from 'pg'
import type { Test } from 'tap'
import { sum } from '../../src/decimal.ts'

/** A version of a receipt in the archive. */
interface Version {
  readonly entryNo: number
  readonly removed: boolean
  /** What it should have caused, by item: `A: -2`. */
  readonly wanted: ReadonlyMap<string, string>
  readonly items: readonly string[]
}

interface Row {
  readonly record_id: string
  readonly incarnation: number
  readonly entry_no: number
  readonly applied_no: number | null
  readonly state: string
}

/** All versions of each life of each receipt: `[7] 2` is what stood second under the key 7. */
async function livesOf(pool: Pool): Promise<ReadonlyMap<string, readonly Version[]>> {
  const { rows } = await pool.query(
    'SELECT entry_no::int, document_no::int, table_name, operation, record_id, record FROM sync_archive ORDER BY register_id, epoch_no, entry_no',
  )
  const lives = new Map<string, Version[]>()
  const last = new Map<string, { life: number; removed: boolean }>()
  for (const entries of Map.groupBy(rows, (row) => row.document_no).values()) {
    const [root] = entries
    const removed = root.operation === 'remove'
    const before = last.get(root.record_id) ?? { life: 1, removed: false }
    const life = before.removed && !removed ? before.life + 1 : before.life
    last.set(root.record_id, { life, removed })
    const lines = entries.filter((row) => row.table_name === 'receipt_lines').map((row) => JSON.parse(row.record))
    const isVoid = !removed && JSON.parse(root.record).status === 'voided'
    const wanted = new Map<string, string>()
    if (!removed && !isVoid)
      for (const line of lines) wanted.set(line.item_no, sum([wanted.get(line.item_no) ?? '0', `-${line.quantity}`.replace('--', '')]))
    const key = `${root.record_id} ${life}`
    lives.set(key, [...(lives.get(key) ?? []), { entryNo: root.entry_no, removed, wanted, items: lines.map((line) => line.item_no) }])
  }
  return lives
}

async function postedOf(pool: Pool): Promise<ReadonlyMap<string, ReadonlyMap<string, string>>> {
  const { rows } = await pool.query(
    'SELECT record_id, incarnation::int, item_no, trim_scale(sum(quantity))::text AS quantity FROM stock_movements GROUP BY 1, 2, 3 HAVING sum(quantity) <> 0',
  )
  const posted = new Map<string, Map<string, string>>()
  for (const row of rows) {
    const key = `${row.record_id} ${row.incarnation}`
    posted.set(key, (posted.get(key) ?? new Map()).set(row.item_no, row.quantity))
  }
  return posted
}

const lifeOf = (row: Row): string => `${row.record_id} ${row.incarnation}`

async function heldOf(pool: Pool): Promise<ReadonlyMap<string, readonly Row[]>> {
  const { rows } = await pool.query<Row>(
    'SELECT record_id, incarnation::int, entry_no::int, applied_no::int, state FROM sync_quarantine ORDER BY entry_no',
  )
  return Map.groupBy(rows, lifeOf)
}

/** The version of a life that is applied: the latest, or, where that waits or is discarded, the one before it that was applied last, or none. */
function appliedOf(versions: readonly Version[], held: readonly Row[] = []): Version | undefined {
  const upserts = versions.filter(({ removed }) => !removed)
  const row = held.find((one) => one.entry_no === upserts.at(-1)?.entryNo)
  return row === undefined ? upserts.at(-1) : upserts.find(({ entryNo }) => entryNo === row.applied_no)
}

/** The receipts of whose applied versions one has such an item, each as often as it has lives like that. */
export async function appliedWith(pool: Pool, item: string): Promise<readonly string[]> {
  const [lives, held] = [await livesOf(pool), await heldOf(pool)]
  const found = [...lives].filter(([life, versions]) => appliedOf(versions, held.get(life))?.items.includes(item))
  return found.map(([life]) => life.slice(0, life.lastIndexOf(' ')))
}

function shown(sums: ReadonlyMap<string, string> | undefined): string {
  return [...(sums ?? [])]
    .filter(([, quantity]) => quantity !== '0')
    .map(([item, quantity]) => `${item} ${quantity}`)
    .sort()
    .join(', ')
}

/**
 * What is posted is what the latest version of each receipt should have caused, or, of one whose latest version waits or is discarded, the version that was applied last; and only
 * what `mayWait` says waits.
 */
export async function holds(t: Test, pool: Pool, mayWait: (items: readonly string[]) => boolean, when: string): Promise<boolean> {
  const lives = await livesOf(pool)
  const posted = await postedOf(pool)
  const held = await heldOf(pool)
  const wrong: string[] = []
  for (const [key, versions] of lives) {
    const upserts = versions.filter(({ removed }) => !removed)
    const latest = upserts.at(-1) as Version
    const row = held.get(key)?.find((one) => one.entry_no === latest.entryNo)
    const waiting = held.get(key)?.filter(({ state }) => state === 'waiting') ?? []
    const applied = appliedOf(versions, held.get(key))
    if (shown(posted.get(key)) !== shown(applied?.wanted)) wrong.push(`${key}: posted ${shown(posted.get(key))}, wanted ${shown(applied?.wanted)}`)
    // Where the latest is discarded, a replay may refuse the one that was applied last.
    const standing = row?.state === 'discarded' ? applied : latest
    if (waiting.length > 1 || waiting.some((one) => one.entry_no !== standing?.entryNo))
      wrong.push(`${key}: another version waits than the one that stands`)
    if (row !== undefined && row.applied_no !== null && (applied === undefined || applied.entryNo > row.entry_no))
      wrong.push(`${key}: applied is none`)
    if (waiting.length > 0 && !mayWait(standing?.items ?? [])) wrong.push(`${key}: waits though nothing is wrong with it: ${standing?.items}`)
  }
  for (const key of posted.keys()) if (!lives.has(key)) wrong.push(`${key}: posted, and not in the archive`)
  const { rows: levels } = await pool.query(
    `SELECT item_no FROM (SELECT item_no, location, sum(quantity) AS q FROM stock_movements GROUP BY 1, 2) m FULL JOIN stock_levels l USING (item_no, location)
     WHERE coalesce(m.q, 0) <> coalesce(l.quantity, 0)`,
  )
  if (levels.length > 0) wrong.push(`levels are not the sum of movements: ${levels.map((row) => row.item_no)}`)
  t.same(wrong, [], when)
  return wrong.length === 0
}
