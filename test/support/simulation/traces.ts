import type { Pool } from 'pg'
import type { ArchivedDocument, ArchivedVersion, RegisterName } from '../../../src/index.ts'
import { Break } from '../differential/break.ts'
import type { Office } from './office.ts'
import { type Line, less, type Moved, movedBy, type Sale, salesOf, sumUp } from './sale.ts'

/** So many versions and postings are told of a document. */
const MOST_TOLD = 100

/** What is told of each receipt of a register is what is: of each life of its key the version that stands is what has posted what is posted, and a sale that the till has is the latest. */
export async function checkTraces({ central, pool }: Office, name: RegisterName, there: readonly Sale[]): Promise<void> {
  const { rows } = await pool.query<{ id: number }>(
    `SELECT DISTINCT (a.record_id::json ->> 0)::int AS id FROM sync_archive a JOIN sync_registers r USING (register_id)
     WHERE r.location = $1 AND r.register = $2 AND a.table_name = 'receipts' ORDER BY 1`,
    [name.location, name.register],
  )
  for (const { id } of rows) {
    const [document, ...others] = await central.trace('receipts', { id }, name)
    if (document === undefined || others.length > 0) throw new Break('untraced', `Receipt ${id} is told ${others.length + (document ? 1 : 0)} times`)
    await checkTrace(pool, document)
    const sale = there.find((one) => one.id === id)
    const isLatest = document.stage === 'applied' && !document.removed && !document.wanted && document.versions.at(-1)?.operation !== 'remove'
    if (sale !== undefined && !isLatest) throw new Break('traced', `The till has ${JSON.stringify(sale)}; told is ${told(document)}`)
  }
}

async function checkTrace(pool: Pool, document: ArchivedDocument): Promise<void> {
  const { versions, postings } = document
  if (versions.length === MOST_TOLD || postings.length === MOST_TOLD) return
  const standing = versions.filter(({ stage, operation }) => stage === 'applied' && operation === 'upsert')
  for (const life of new Set([...standing, ...postings].map(({ incarnation }) => incarnation))) {
    const [version, ...others] = standing.filter(({ incarnation }) => incarnation === life)
    if (others.length > 0) throw new Break('traced', `Of life ${life} several versions stand: ${told(document)}`)
    const rows = postings.filter(({ incarnation }) => incarnation === life).flatMap((posting) => posting.rows)
    const posted = sumUp(rows.map(({ item, quantity }) => [item as string, Number(quantity)]))
    const wanted = version ? await movedByVersion(pool, document, version) : new Map()
    if (less(wanted, posted).size > 0) throw new Break('traced', `Life ${life} has posted ${JSON.stringify([...posted])}: ${told(document)}`)
  }
}

async function movedByVersion(pool: Pool, { location, register }: RegisterName, { epoch, entryNo }: ArchivedVersion): Promise<Moved> {
  const { rows } = await pool.query<{ table_name: string; record: string }>(
    `SELECT a.table_name, a.record FROM sync_archive a JOIN sync_registers r USING (register_id) JOIN sync_epochs e ON e.register_id = a.register_id AND e.epoch_no = a.epoch_no
     WHERE r.location = $1 AND r.register = $2 AND e.epoch = $3 AND a.document_no = $4 ORDER BY a.entry_no`,
    [location, register, epoch, entryNo],
  )
  const records = (table: string) => rows.filter((row) => row.table_name === table).map(({ record }) => JSON.parse(record))
  const [sale] = salesOf(records('receipts') as Omit<Sale, 'lines'>[], records('receipt_lines') as Line[])
  return sale ? movedBy(sale) : new Map()
}

function told({ stage, why, removed, wanted, incarnation, versions, postings, orphans }: ArchivedDocument): string {
  const shown = versions.map(({ epoch, entryNo, operation, incarnation, stage, why }) => [
    epoch.slice(0, 4),
    entryNo,
    operation,
    incarnation,
    stage,
    why,
  ])
  const posted = postings.map(({ epoch, entryNo, incarnation, rows }) => [
    epoch.slice(0, 4),
    entryNo,
    incarnation,
    rows.map(({ item, quantity }) => [item, quantity]),
  ])
  return JSON.stringify({
    stage,
    why,
    removed,
    wanted,
    incarnation,
    versions: shown,
    postings: posted,
    orphans: orphans.map(({ incarnation, state }) => [incarnation, state]),
  })
}
