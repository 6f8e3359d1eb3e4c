import type { Pool } from 'pg'
import { chainDigest } from '../../../src/digest.ts'
import type { RegisterName } from '../../../src/index.ts'
import { type Entry, START } from '../../../src/model.ts'
import { Break } from '../differential/break.ts'
import type { Office } from './office.ts'
import { type Line, type Moved, type Sale, salesOf, sumUp } from './sale.ts'

/** What central's mirror has of a register. */
export async function mirrored(pool: Pool, { location, register }: RegisterName): Promise<readonly Sale[]> {
  const name = [location, register]
  const receipts = await pool.query<Omit<Sale, 'lines'>>(
    'SELECT id, receipt_no, customer_no, status FROM receipts WHERE location = $1 AND register = $2',
    name,
  )
  const lines = await pool.query<Line>('SELECT id, receipt_id, item_no, quantity FROM receipt_lines WHERE location = $1 AND register = $2', name)
  return salesOf(receipts.rows, lines.rows)
}

/** What was posted for each sale of a register, by the sale's name. */
export async function posted(pool: Pool, { location, register }: RegisterName): Promise<ReadonlyMap<string, Moved>> {
  const { rows } = await pool.query<{ customer_no: string; item_no: string; quantity: string }>(
    `SELECT m.customer_no, m.item_no, sum(m.quantity) AS quantity FROM stock_movements m JOIN sync_registers r USING (register_id)
     WHERE r.location = $1 AND r.register = $2 GROUP BY 1, 2`,
    [location, register],
  )
  const groups = Map.groupBy(rows, ({ customer_no }) => customer_no)
  return new Map([...groups].map(([name, all]) => [name, sumUp(all.map(({ item_no, quantity }) => [item_no, Number(quantity)]))]))
}

/** The names of all sales of which central's archive has anything. */
export async function archivedNames(pool: Pool, { location, register }: RegisterName): Promise<ReadonlySet<string>> {
  const { rows } = await pool.query<{ name: string }>(
    `SELECT DISTINCT a.record::json ->> 'customer_no' AS name FROM sync_archive a JOIN sync_registers r USING (register_id)
     WHERE r.location = $1 AND r.register = $2 AND a.table_name = 'receipts' AND a.record IS NOT NULL`,
    [location, register],
  )
  return new Set(rows.map(({ name }) => name))
}

interface ArchivedRow {
  readonly entry_no: number
  readonly table_name: string
  readonly operation: Entry['operation']
  readonly record_id: string
  readonly record: string | null
  readonly document_no: number
  readonly sealed_at: string
}

interface EpochRow {
  readonly register_id: number
  readonly epoch_no: number
  readonly start_no: number
  readonly start_digest: string
  readonly entry_no: number
  readonly digest: string
}

/** Each epoch's entries follow one another from its start to where central stands in it, by number and by digest; levels are the sums of the ledger. */
export async function checkLedger({ central, pool, prunesArchive }: Office): Promise<void> {
  if (prunesArchive) await checkProof(central)
  else {
    const epochs = await pool.query<EpochRow>(
      `SELECT e.register_id, e.epoch_no, e.start_no::int, e.start_digest, coalesce(e.entry_no, r.entry_no)::int AS entry_no, coalesce(e.digest, r.digest) AS digest
       FROM sync_epochs e JOIN sync_registers r USING (register_id)`,
    )
    for (const epoch of epochs.rows) await checkChain(pool, epoch)
  }
  const { rows } = await pool.query<{ wrong: string }>(`
    SELECT count(*) AS wrong FROM (SELECT item_no, location, sum(quantity) AS quantity FROM stock_movements GROUP BY 1, 2) m
    FULL JOIN stock_levels l USING (item_no, location) WHERE coalesce(m.quantity, 0) <> coalesce(l.quantity, 0)`)
  if (rows[0]?.wrong !== '0') throw new Break('levels', 'Stock levels are not the sums of the movements')
}

/** Where versions were pruned, central proves by itself that nothing else is missing. */
async function checkProof(central: Office['central']): Promise<void> {
  const { registers } = await central.audit({ location: 'BA01' })
  const found = registers.flatMap(({ findings }) => findings.filter(({ code }) => ['ENTRIES_MISSING', 'ENTRIES_UNKNOWN', 'DIGEST'].includes(code)))
  if (found.length > 0) throw new Break('archive', JSON.stringify(found))
}

async function checkChain(pool: Pool, { register_id, epoch_no, start_no, start_digest, entry_no, digest: end }: EpochRow): Promise<void> {
  const which = [register_id, epoch_no]
  const entries = await pool.query<ArchivedRow>(
    `SELECT entry_no::int, table_name, operation, record_id, record, document_no::int, to_char(sealed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS sealed_at
     FROM sync_archive WHERE register_id = $1 AND epoch_no = $2 ORDER BY entry_no`,
    which,
  )
  const points = await pool.query<{ entry_no: number; digest: Buffer }>(
    'SELECT entry_no::int, digest FROM sync_points WHERE register_id = $1 AND epoch_no = $2',
    which,
  )
  const digests = new Map([[start_no, start_digest]])
  let digest = start_no === 0 ? START.digest : start_digest
  let at = start_no
  let document = { table: '', recordId: '' }
  for (const row of entries.rows) {
    if (row.entry_no !== ++at) throw new Break('gap', `Epoch ${epoch_no}: entry ${row.entry_no} where ${at} is due`)
    if (row.document_no === row.entry_no) document = { table: row.table_name, recordId: row.record_id }
    const { table_name: table, operation, record_id: recordId, record, sealed_at: sealedAt } = row
    digest = chainDigest(digest, { entryNo: at, table, operation, recordId, record, document, sealedAt })
    digests.set(at, digest)
  }
  if (at !== entry_no || digest !== (end ?? START.digest)) throw new Break('chain', `Epoch ${epoch_no} ends at ${at}, central says ${entry_no}`)
  for (const point of points.rows) {
    if (digests.get(point.entry_no) !== point.digest.toString('hex'))
      throw new Break('chain', `Epoch ${epoch_no} has another digest at ${point.entry_no}`)
  }
}
