import { copyFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { type Bench, interleave, toResult } from './measure.ts'
import { openTill, ROWS, register, seller, temporaryFolder } from './shop.ts'

const SALES = 10_000

/** A till with touched sales that nobody has sealed, as one file. */
async function touchedTill(file: string): Promise<void> {
  const db = openTill(file, 'OFF')
  const till = register(file, 'POS1')
  await till.install()
  await till.stop()
  const sell = seller(db)
  for (let no = 1; no <= SALES; no++) sell(no)
  db.close()
}

async function sealAll(file: string): Promise<number> {
  const till = register(file, 'POS1')
  await till.status() // opens it
  const began = performance.now()
  const { entries } = await till.seal()
  const seconds = (performance.now() - began) / 1_000
  await till.stop()
  return entries / seconds
}

/** The least that one could do: read the same rows and write each as JSON into a table, by the same size of transaction. */
function copyAll(file: string): number {
  const db = new Database(file)
  db.pragma('synchronous = FULL')
  db.exec('CREATE TABLE copies (id INTEGER PRIMARY KEY, table_name TEXT, record TEXT)')
  const insert = db.prepare('INSERT INTO copies (table_name, record) VALUES (?, ?)')
  const began = performance.now()
  const reads = [
    'SELECT * FROM receipts WHERE id = ?',
    'SELECT * FROM receipt_lines WHERE receipt_id = ?',
    'SELECT * FROM tender_lines WHERE receipt_id = ?',
  ]
  const [receipt, lines, tenders] = reads.map((sql) => db.prepare(sql)) as [Database.Statement, Database.Statement, Database.Statement]
  const slice = db.transaction((from: number, to: number) => {
    for (let id = from; id <= to; id++) {
      insert.run('receipts', JSON.stringify(receipt.get(id)))
      for (const line of lines.all(id)) insert.run('receipt_lines', JSON.stringify(line))
      for (const tender of tenders.all(id)) insert.run('tender_lines', JSON.stringify(tender))
    }
  })
  for (let id = 1; id <= SALES; id += 32) slice.immediate(id, Math.min(SALES, id + 31))
  const seconds = (performance.now() - began) / 1_000
  db.close()
  return (SALES * ROWS) / seconds
}

export const seal: Bench = {
  name: 'seal',
  about: `entries sealed a second from ${SALES.toLocaleString('en')} touched sales, beside merely copying their rows as JSON into one table`,
  rounds: 5,
  async run(rounds) {
    const folder = temporaryFolder()
    const template = join(folder, 'touched.sqlite')
    await touchedTill(template)
    const onCopy = (work: (file: string) => number | Promise<number>) => async () => {
      const file = join(folder, 'till.sqlite')
      for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true })
      copyFileSync(template, file)
      return work(file)
    }
    const { sealed = [], copied = [] } = await interleave(rounds, { sealed: onCopy(sealAll), copied: onCopy(copyAll) })
    return [toResult('seal', 'entries/s', sealed, copied, { of: 'median', bound: '≥', value: 60_000 })]
  },
}
