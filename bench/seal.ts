import { copyFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import { type Bench, expect, interleave, type Took, take, toResult } from './measure.ts'
import { openTill, ROWS, register, seller, temporaryFolder } from './shop.ts'

const SALES = 20_000
const ENTRIES = SALES * ROWS

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

async function sealAll(file: string): Promise<Took> {
  const till = register(file, 'POS1')
  await till.status() // opens it
  const took = await take(() => till.seal())
  const { head, unsealed } = await till.status()
  expect('the number of entries', head.entryNo, ENTRIES)
  expect('the number of touches left', unsealed, 0)
  await till.stop()
  return took
}

/** The least that one could do: read the same rows and write each as JSON into a table, by the same size of transaction. */
async function copyAll(file: string): Promise<Took> {
  const db = new Database(file)
  db.pragma('synchronous = FULL')
  db.exec('CREATE TABLE copies (id INTEGER PRIMARY KEY, table_name TEXT, record TEXT)')
  const insert = db.prepare('INSERT INTO copies (table_name, record) VALUES (?, ?)')
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
  const took = await take(() => {
    for (let id = 1; id <= SALES; id += 32) slice.immediate(id, Math.min(SALES, id + 31))
  })
  expect('the number of copies', db.prepare('SELECT count(*) FROM copies').pluck().get(), ENTRIES)
  db.close()
  return took
}

const aWallSecond = ({ wallMs }: Took) => ENTRIES / (wallMs / 1_000)
const aCpuSecond = ({ cpuMs }: Took) => ENTRIES / (cpuMs / 1_000)

export const seal: Bench = {
  name: 'seal',
  about: `entries sealed a second, and a second of CPU time (where the disk doesn't count), from ${SALES.toLocaleString('en')} touched sales, beside merely copying their rows as JSON into one table`,
  rounds: 5,
  async run({ rounds }) {
    const folder = temporaryFolder()
    const template = join(folder, 'touched.sqlite')
    await touchedTill(template)
    const onCopy = (work: (file: string) => Promise<Took>) => async () => {
      const file = join(folder, 'till.sqlite')
      for (const suffix of ['', '-wal', '-shm']) rmSync(file + suffix, { force: true })
      copyFileSync(template, file)
      return work(file)
    }
    const { sealed, copied } = await interleave(rounds, { sealed: onCopy(sealAll), copied: onCopy(copyAll) })
    const aim = { of: 'median', bound: '≥', value: 100_000 } as const
    return [
      toResult('seal', 'entries/s', sealed.map(aWallSecond), copied.map(aWallSecond), aim),
      toResult('seal-cpu', 'entries/CPU s', sealed.map(aCpuSecond), copied.map(aCpuSecond), aim),
    ]
  },
}
