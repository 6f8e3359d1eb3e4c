import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'
import pg from 'pg'
import { from } from 'pg-copy-streams'
import { Break, Unfit } from './break.ts'

/** How long the host waits where it would not without the library: for a lock of the library's. */
const PATIENCE = '5s'
const STATEMENT = '"of the statement"'

/** One of the host's connections: to its tables, and to those of the twin. */
interface Pair {
  readonly subject: pg.Client
  readonly twin: pg.Client
}

/**
 * The host's connections. Every statement runs on both sides and must come to the same: command, count and rows, or SQLSTATE and constraint. One that
 * waits for another of the host's connections would wait for ever, so it fails by its lock timeout, on both.
 */
export class Lockstep {
  private readonly pairs: readonly Pair[]
  /** Names of transactions that are prepared. */
  private readonly prepared = new Set<string>()
  /** Counts what may have changed the schema. */
  changes = 0

  constructor(pairs: readonly Pair[]) {
    this.pairs = pairs
  }

  isInTransaction(on: number): boolean {
    return this.pair(on).subject.getTransactionStatus() !== 'I'
  }

  get isBetweenTransactions(): boolean {
    return this.prepared.size === 0 && this.pairs.every((_, on) => !this.isInTransaction(on))
  }

  private pair(on: number): Pair {
    return this.pairs[on % this.pairs.length] as Pair
  }

  /** Returns the error's code, or undefined. */
  async run(on: number, sql: string): Promise<string | undefined> {
    const pair = this.pair(on)
    const within = pair.subject.getTransactionStatus() === 'T' && !CONTROL.test(sql)
    // Half of the connections belong to programs that go on after an error, the others to those that begin anew.
    const saves = within && on % 2 === 0
    if (saves) await this.both(pair, `SAVEPOINT ${STATEMENT}`)
    const failed = await this.both(pair, sql)
    if (saves) await this.both(pair, failed === undefined ? `RELEASE ${STATEMENT}` : `ROLLBACK TO ${STATEMENT}`)
    else if (pair.subject.getTransactionStatus() === 'E' && (await this.both(pair, 'ROLLBACK TO "s"')) !== undefined)
      await this.both(pair, 'ROLLBACK')
    if (failed !== undefined) return failed
    const name = /^PREPARE TRANSACTION '(.*)'/.exec(sql)?.[1]
    if (name !== undefined && this.hasPrepared) this.prepared.add(name)
    const ended = /^\w+ PREPARED '(.*)'/.exec(sql)?.[1]
    if (ended !== undefined) this.prepared.delete(ended)
    if (/^(alter|create|drop|commit|rollback|prepare)/i.test(sql)) this.changes++
    return undefined
  }

  private hasPrepared = false

  private async both({ subject, twin }: Pair, sql: string): Promise<string | undefined> {
    const wanted = await outcome(twin, sql.replace(/( (?:TRANSACTION|PREPARED) ')/, '$1twin of '))
    // Triggers that fire each other, row by row.
    if (wanted.startsWith('! 57014')) throw new Unfit(`takes for ever: ${sql}`)
    await subject.query(`SET lock_timeout = '${wanted.startsWith('! 55P03') ? '1ms' : PATIENCE}'`).catch(() => undefined)
    const found = await outcome(subject, sql)
    if (found !== wanted) throw new Break('outcome', `${sql}\n  with the library: ${found}\n  without:          ${wanted}`)
    if (subject.getTransactionStatus() !== twin.getTransactionStatus()) throw new Break('transaction', sql)
    this.hasPrepared = found.startsWith('["PREPARE"')
    return found.startsWith('!') ? found.slice(2) : undefined
  }

  /** Whatever is open is committed, or else rolled back. */
  async settle(): Promise<void> {
    for (const on of this.pairs.keys()) {
      if (this.isInTransaction(on)) await this.run(on, 'COMMIT')
      if (this.isInTransaction(on)) await this.run(on, 'ROLLBACK')
    }
    for (const name of [...this.prepared]) await this.run(0, `COMMIT PREPARED '${name}'`)
  }

  async abandon(): Promise<void> {
    for (const { subject, twin } of this.pairs) {
      for (const client of [subject, twin]) await client.query('ROLLBACK').catch(() => undefined)
    }
    for (const name of this.prepared)
      for (const gid of [name, `twin of ${name}`])
        await this.pair(0)
          .subject.query(`ROLLBACK PREPARED '${gid}'`)
          .catch(() => undefined)
    this.prepared.clear()
  }
}

/** All of the database's transactions that are prepared. */
export async function rollbackPrepared(client: pg.Client): Promise<void> {
  const { rows } = await client.query('SELECT gid FROM pg_prepared_xacts WHERE database = current_database()')
  for (const { gid } of rows) await client.query(`ROLLBACK PREPARED '${gid}'`)
}

const CONTROL = /^(begin|commit|rollback|savepoint|release|prepare|set)\b/i

/** Texts as the server writes them. */
const types = { getTypeParser: () => (value: unknown) => String(value) } as unknown as pg.CustomTypesConfig

async function outcome(client: pg.Client, sql: string): Promise<string> {
  try {
    if (sql.startsWith('COPY')) return await copied(client, sql)
    const done = await client.query<unknown[]>({ text: sql, rowMode: 'array', types })
    const all = Array.isArray(done) ? (done as pg.QueryResult<unknown[]>[]) : [done]
    return all.map(({ command, rowCount, rows }) => JSON.stringify([command, rowCount, rows.map((row) => JSON.stringify(row)).sort()])).join(' ')
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error
    const { code, constraint, column, table } = error
    return `! ${code} ${[constraint, table, column].map((name) => name ?? '').join(' ')}`
  } finally {
    await isReady(client)
  }
}

/** An error is said before the server says that it is ready, and in which state. */
async function isReady(client: pg.Client): Promise<void> {
  if (!(client as unknown as { readonly readyForQuery: boolean }).readyForQuery) await once(client, 'drain')
}

async function copied(client: pg.Client, sql: string): Promise<string> {
  const end = sql.indexOf('\n')
  const stream = client.query(from(sql.slice(0, end)))
  await pipeline([sql.slice(end + 1)], stream)
  return `copied ${stream.rowCount}`
}
