import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { CENTRAL_SCHEMA } from '../examples/demo/tables.ts'
import { type Postgres, startPostgres } from '../examples/support/postgres.ts'
import { createFloor, mirrorByHand } from './apply-floor.ts'
import { expect } from './measure.ts'

const SETTINGS = ['wal_level=logical', 'wal_retrieve_retry_interval=100ms']

/** Two clusters, of which one gets the other's sales by PostgreSQL's own logical replication: rows are copied, nothing is archived, posted or levelled. */
export class Replication {
  /** Where sales are staged. */
  readonly publisher: pg.Client
  private readonly subscriber: pg.Client
  private readonly servers: readonly Postgres[]

  private constructor(publisher: pg.Client, subscriber: pg.Client, servers: readonly Postgres[]) {
    this.publisher = publisher
    this.subscriber = subscriber
    this.servers = servers
  }

  static async open(): Promise<Replication> {
    const servers = [await startPostgres({ settings: SETTINGS }), await startPostgres({ settings: SETTINGS })] as const
    const [from, to] = [await servers[0].createDatabase(), await servers[1].createDatabase()]
    const [publisher, subscriber] = [new pg.Client(from.config), new pg.Client(to.config)]
    for (const client of [publisher, subscriber]) await client.connect()
    await createFloor(publisher)
    await subscriber.query(CENTRAL_SCHEMA)
    await publisher.query('CREATE PUBLICATION sales FOR TABLE receipts, receipt_lines, tender_lines')
    await subscriber.query(`CREATE SUBSCRIPTION sales CONNECTION '${from.connectionString}' PUBLICATION sales WITH (copy_data = false)`)
    await subscriber.query('ALTER SUBSCRIPTION sales DISABLE')
    return new Replication(publisher, subscriber, servers)
  }

  /** Lets the sales that are staged come, in a transaction up to each of these entries; answers the seconds from when the line is back. */
  async copy(register: string, ends: readonly number[]): Promise<number> {
    const { publisher, subscriber } = this
    await mirrorByHand(publisher, register, ends)
    const { rows } = await publisher.query<{ lsn: string }>('SELECT pg_current_wal_lsn() AS lsn')
    const began = performance.now()
    await subscriber.query('ALTER SUBSCRIPTION sales ENABLE')
    const isThere = 'SELECT confirmed_flush_lsn >= $1::pg_lsn AS there FROM pg_replication_slots'
    while (!(await publisher.query(isThere, [rows[0]?.lsn])).rows[0]?.there) await sleep(20)
    const seconds = (performance.now() - began) / 1_000
    await subscriber.query('ALTER SUBSCRIPTION sales DISABLE')
    const counts = await Promise.all([publisher, subscriber].map((client) => client.query('SELECT count(*)::int AS lines FROM receipt_lines')))
    expect('the number of copied lines', counts[1]?.rows[0].lines, counts[0]?.rows[0].lines)
    return seconds
  }

  get pids(): readonly number[] {
    return this.servers.map(({ pid }) => pid)
  }

  async close(): Promise<void> {
    for (const client of [this.subscriber, this.publisher]) await client.end()
    for (const server of this.servers.toReversed()) await server.stop()
  }
}
