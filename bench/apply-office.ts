import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import pg from 'pg'
import { CENTRAL_SCHEMA } from '../examples/demo/tables.ts'
import type { Postgres } from '../examples/support/postgres.ts'
import { decodeMessage } from '../src/transport/codec.ts'
import { CONTENT_TYPE } from '../src/transport/http-client.ts'
import type { ApplyCentral, ApplyCentralReady } from './apply-central.ts'
import { messageWith, type PackedBatch, SALES_A_DAY, type Sold } from './apply-stream.ts'
import { expect } from './measure.ts'
import type { Memory } from './memory.ts'
import { type Program, startProgram } from './program.ts'
import { LINES } from './shop.ts'

/** The epoch of all streams; each register has its own. */
export const EPOCH = randomUUID()

/** Head office that applies batches, in a process of its own, and a connection to its database. */
export interface HeadOffice {
  readonly central: Program<ApplyCentralReady>
  readonly client: pg.Client
  memory(): Promise<Memory>
  close(): Promise<void>
}

export async function openHeadOffice(server: Postgres, options: Omit<ApplyCentral, 'config'>): Promise<HeadOffice> {
  const { config } = await server.createDatabase()
  const client = new pg.Client(config)
  await client.connect()
  await client.query(CENTRAL_SCHEMA)
  const central = await startProgram<ApplyCentralReady>('apply-central.ts', { config, ...options } satisfies ApplyCentral, ['--expose-gc'])
  const close = async () => {
    await central.stop()
    await client.end()
  }
  const memory = async () => {
    const said = once(central.child, 'message')
    central.child.send('memory')
    return (await said)[0] as Memory
  }
  return { central, client, memory, close }
}

/** Sends a register's batches, each when the one before is acknowledged; answers the seconds. What was made ready before does not count. */
export async function send({ central }: HeadOffice, register: string, batches: readonly PackedBatch[]): Promise<number> {
  const { port, tokens } = central.ready
  const head = batches.at(-1)?.through ?? 0
  const messages = await Promise.all(batches.map((batch) => messageWith(batch, { location: 'BA01', register }, EPOCH, head)))
  const headers = { authorization: `Bearer ${tokens[register]}`, 'content-type': CONTENT_TYPE }
  let last: Uint8Array = new Uint8Array()
  const began = performance.now()
  for (const body of messages) {
    const response = await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', headers, body: body as Uint8Array<ArrayBuffer> })
    last = await response.bytes()
  }
  const seconds = (performance.now() - began) / 1_000
  const { subscribe } = await decodeMessage(last, 1_048_576)
  expect('where central stands', subscribe?.standing?.entryNo, head)
  return seconds
}

/** What stands there is what was sold so many times, in the mirror, in the ledger, on the shelf and in the closings, be they central's or the floor's. */
export async function checkBooks(client: pg.Client, { sales, closings }: Sold, times: number): Promise<void> {
  const { rows } = await client.query<{ lines: number; movements: number; sold: string; moved: string; level: string }>(
    `SELECT (SELECT count(*)::int FROM receipt_lines) AS lines, (SELECT count(*)::int FROM stock_movements) AS movements,
            (SELECT -sum(quantity) FROM receipt_lines) AS sold, (SELECT sum(quantity) FROM stock_movements) AS moved,
            (SELECT sum(quantity) FROM stock_levels) AS level`,
  )
  const [row] = rows
  expect('the number of lines', row?.lines, times * sales * LINES)
  expect('the number of movements', row?.movements, times * sales * LINES)
  expect('what moved', Number(row?.moved), Number(row?.sold))
  expect('the stock of all articles', Number(row?.level), Number(row?.sold))
  if (!closings) return
  const own = (await client.query("SELECT to_regclass('posted_plu_closing_lines') IS NOT NULL AS own")).rows[0].own
  const closed = await client.query(`SELECT sum(quantity) AS sold FROM ${own ? 'posted_plu_closing_lines' : 'closing_lines'}`)
  const days = Math.floor(sales / SALES_A_DAY) * SALES_A_DAY
  const wanted = await client.query('SELECT sum(quantity) AS sold FROM receipt_lines WHERE receipt_id <= $1', [days])
  expect('what was closed', Number(closed.rows[0].sold), Number(wanted.rows[0].sold))
}
