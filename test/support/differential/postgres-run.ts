import { setTimeout as pause } from 'node:timers/promises'
import pg from 'pg'
import type { Test } from 'tap'
import type { Postgres } from '../postgres.ts'
import { Break } from './break.ts'
import { rollbackPrepared } from './postgres-lockstep.ts'
import { PostgresStage, SCHEMAS, type Sessions } from './postgres-stage.ts'
import { READER_SETTINGS } from './postgres-standing.ts'
import { playOn } from './run.ts'
import type { Case } from './steps.ts'

/** What a server needs that cases are played on: whether a row is moved or dead must not depend on when a vacuum comes by. */
export const SETTINGS = ['max_prepared_transactions=20', 'autovacuum=off']

/** After so many cases a database's catalogue has become long. */
const CASES_PER_DATABASE = 60
const CONNECTIONS = 3
/** A case takes a fraction of a second, unless something waits for ever. */
const PATIENCE_MS = 30_000

/** Plays cases on a server, one after the other. Their sessions end with the test. */
export function onPostgres(t: Test, server: Postgres): (one: Case) => Promise<void> {
  let house: House | undefined
  t.teardown(() => house?.close())
  return async (one) => {
    if (house !== undefined && house.cases >= CASES_PER_DATABASE) {
      await house.close()
      house = undefined
    }
    house ??= await House.open(server)
    const late = new AbortController()
    const hang = pause(PATIENCE_MS, undefined, { signal: late.signal }).then(async () => {
      throw new Break('hang', `a case does not end within ${PATIENCE_MS / 1_000} s\n${await house?.activity()}`)
    })
    hang.catch(() => undefined)
    try {
      await Promise.race([house.play(one), hang])
    } catch (error) {
      const left = house
      house = undefined // another one may have been left in the middle of it
      await left.raze()
      throw error
    } finally {
      late.abort()
    }
  }
}

/** A database, with two schemas that each case finds empty. */
class House {
  cases = 0
  private readonly sessions: Sessions
  /** Whose snapshot keeps every row version of a case in its place: else what the library reads decides where the next row lies, and in which order rows are changed. */
  private readonly keeper: pg.Client
  private readonly clients: readonly pg.Client[]
  private readonly drop: () => Promise<void>

  private constructor(sessions: Sessions, keeper: pg.Client, clients: readonly pg.Client[], drop: () => Promise<void>) {
    this.sessions = sessions
    this.keeper = keeper
    this.clients = clients
    this.drop = drop
  }

  static async open(server: Postgres): Promise<House> {
    const { config, drop } = await server.createDatabase()
    const clients: pg.Client[] = []
    const client = async (): Promise<pg.Client> => {
      const one = new pg.Client(config)
      one.on('error', () => undefined)
      await one.connect()
      clients.push(one)
      return one
    }
    const pair = async () => ({ subject: await client(), twin: await client() })
    const hosts = []
    while (hosts.length < CONNECTIONS) hosts.push(await pair())
    const library = new pg.Pool({ ...config, max: 8 })
    library.on('error', () => undefined)
    return new House({ library, hosts, readers: await pair() }, await client(), clients, drop)
  }

  async play(one: Case): Promise<void> {
    this.cases++
    const { keeper, sessions } = this
    const { readers, hosts } = sessions
    const names = Object.values(SCHEMAS)
    await keeper.query(
      `SET client_min_messages = warning; DROP SCHEMA IF EXISTS ${names.join(', ')} CASCADE; ${names.map((name) => `CREATE SCHEMA ${name}`).join('; ')}`,
    )
    for (const pair of [...hosts, readers]) {
      for (const side of ['subject', 'twin'] as const)
        await pair[side].query(`DISCARD ALL`).then(() => pair[side].query(`SET client_min_messages = warning; SET search_path = ${SCHEMAS[side]}`))
    }
    for (const { twin } of hosts) await twin.query(`SET lock_timeout = '1ms'; SET statement_timeout = '500ms'`)
    for (const reader of Object.values(readers)) await reader.query(READER_SETTINGS)
    await keeper.query('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1')
    try {
      await playOn(new PostgresStage(sessions, one.connections), one)
    } finally {
      await keeper.query('ROLLBACK')
    }
  }

  async activity(): Promise<string> {
    const { rows } = await this.keeper.query(
      `SELECT concat_ws(' ', pid, state, wait_event_type, wait_event, pg_blocking_pids(pid), query) AS session FROM pg_stat_activity WHERE datname = current_database()`,
    )
    return rows.map(({ session }) => session).join('\n')
  }

  /** Ends it with whatever is going on in it. */
  async raze(): Promise<void> {
    const { keeper } = this
    await keeper.query('ROLLBACK')
    await keeper.query('SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()')
    await rollbackPrepared(keeper)
    await this.drop()
    await Promise.allSettled([this.sessions.library.end(), ...this.clients.map((client) => client.end())])
  }

  async close(): Promise<void> {
    await this.sessions.library.end()
    for (const client of this.clients) await client.end()
    await this.drop()
  }
}
