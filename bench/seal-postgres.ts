import type pg from 'pg'
import type { Postgres } from '../examples/support/postgres.ts'
import { type Bench, expect, interleave, take, toResult } from './measure.ts'
import { ROWS } from './shop.ts'
import { connect, copyDatabase, openTill, sellMany, withPostgres, withRegister } from './shop-postgres.ts'

const SALES = 20_000
const ENTRIES = SALES * ROWS
/** Sales that the baseline copies in a transaction: about what a slice of sealing takes. */
const COPIED_AT_A_TIME = 128

/** A database with touched sales that nobody has sealed; a template for others. */
async function touchedTill(server: Postgres): Promise<string> {
  const { client, database } = await openTill(server)
  await withRegister(database.config, {}, async () => undefined)
  await sellMany(client, 1, SALES)
  await client.query('VACUUM ANALYZE')
  await client.end()
  return database.config.database
}

async function onCopy(server: Postgres, template: string, work: (config: pg.PoolConfig) => Promise<number>): Promise<number> {
  const copy = await copyDatabase(server, template)
  const figure = await work(copy.config)
  await copy.drop()
  return figure
}

function sealAll(config: pg.PoolConfig): Promise<number> {
  return withRegister(config, {}, async (till) => {
    const { wallMs } = await take(() => till.seal())
    const { head, unsealed } = await till.status()
    expect('the number of entries', head.entryNo, ENTRIES)
    expect('the number of touches left', unsealed, 0)
    return ENTRIES / (wallMs / 1_000)
  })
}

/** The least that one could do: read the same rows and write each as JSON into a table, by the same size of transaction. */
async function copyAll(config: pg.PoolConfig): Promise<number> {
  const client = await connect(config)
  await client.query('CREATE TABLE copies (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, table_name text NOT NULL, record text NOT NULL)')
  const read = async (table: string, column: string, from: number, to: number) =>
    (await client.query({ name: table, text: `SELECT * FROM ${table} WHERE ${column} BETWEEN $1 AND $2 ORDER BY id`, values: [from, to] })).rows
  const slice = async (from: number, to: number) => {
    await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
    const names: string[] = []
    const records: string[] = []
    for (const [table, column] of Object.entries({ receipts: 'id', receipt_lines: 'receipt_id', tender_lines: 'receipt_id' })) {
      for (const row of await read(table, column, from, to)) {
        names.push(table)
        records.push(JSON.stringify(row))
      }
    }
    await client.query('INSERT INTO copies (table_name, record) SELECT * FROM unnest($1::text[], $2::text[])', [names, records])
    await client.query('COMMIT')
  }
  const { wallMs } = await take(async () => {
    for (let id = 1; id <= SALES; id += COPIED_AT_A_TIME) await slice(id, Math.min(SALES, id + COPIED_AT_A_TIME - 1))
  })
  expect('the number of copies', (await client.query('SELECT count(*)::int AS copies FROM copies')).rows[0].copies, ENTRIES)
  await client.end()
  return ENTRIES / (wallMs / 1_000)
}

export const sealPostgres: Bench = {
  name: 'seal-postgres',
  about: `entries sealed a second on PostgreSQL, from ${SALES.toLocaleString('en')} touched sales, beside merely copying their rows as JSON into one table`,
  rounds: 5,
  run: ({ rounds }) =>
    withPostgres(async (server) => {
      const template = await touchedTill(server)
      const { sealed, copied } = await interleave(rounds, {
        sealed: () => onCopy(server, template, sealAll),
        copied: () => onCopy(server, template, copyAll),
      })
      return [toResult('seal-postgres', 'entries/s', sealed, copied, { of: 'median', bound: '≥', value: 40_000 })]
    }),
}
