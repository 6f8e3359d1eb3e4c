import type pg from 'pg'
import type { Postgres } from '../examples/support/postgres.ts'
import { type Bench, expect, interleave, roundsOf, toResult } from './measure.ts'
import { CHANGE_LOG, OLDER_WAYS, type OlderWay, olderTriggerOfPostgres } from './older-triggers.ts'
import { ROWS, TABLES } from './shop.ts'
import { openTill, seller, withPostgres, withRegister } from './shop-postgres.ts'

const UNIT = 'wall µs a sale'
/** The ways take turns this often in a round, each with so many sales. */
const TURNS = 20
const SALES = 10

type Way = OlderWay | 'bare' | 'tillsync'

async function openWith(server: Postgres, way: Way) {
  const { client, database } = await openTill(server)
  if (way === 'tillsync') await withRegister(database.config, {}, async () => undefined)
  else if (way !== 'bare') await client.query(await olderTriggers(client, way))
  const log = way === 'bare' ? undefined : way === 'tillsync' ? 'sync_touches' : CHANGE_LOG
  return { way, client, log, sell: seller(client) }
}

async function olderTriggers(client: pg.Client, way: OlderWay): Promise<string> {
  const { rows } = await client.query<{ table_name: string; columns: string[] }>(
    `SELECT table_name, array_agg(column_name::text ORDER BY ordinal_position) AS columns
     FROM information_schema.columns WHERE table_name = ANY($1) GROUP BY table_name`,
    [[...TABLES]],
  )
  const log = `CREATE TABLE ${CHANGE_LOG} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, table_name text NOT NULL, operation text NOT NULL, record text NOT NULL);`
  return log + rows.map(({ table_name, columns }) => olderTriggerOfPostgres(way, table_name, columns)).join('\n')
}

export const capturePostgres: Bench = {
  name: 'capture-postgres',
  about: 'wall time of a sale on PostgreSQL with the triggers against one without, each commit waiting for the disk',
  rounds: 10,
  run: ({ rounds }) =>
    withPostgres(async (server) => {
      const tills: Awaited<ReturnType<typeof openWith>>[] = []
      for (const way of ['bare', 'tillsync', ...OLDER_WAYS] as const) tills.push(await openWith(server, way))
      let next = 1
      const turns = tills.map(({ way, sell }) => {
        const turn = async () => {
          const began = performance.now()
          for (let n = 0; n < SALES; n++) await sell(next++)
          return ((performance.now() - began) * 1_000) / SALES
        }
        return [way, turn]
      })
      const figures = await interleave(rounds, Object.fromEntries(turns) as Record<Way, () => Promise<number>>, TURNS)
      for (const { client, log } of tills) {
        if (log !== undefined) {
          // A row that would leave the same touch as the one before it leaves none.
          const [what, of] = log === CHANGE_LOG ? ['*', ROWS] : ['DISTINCT (xid, source, key)', 1]
          const { rows } = await client.query(`SELECT count(${what})::int AS written FROM ${log}`)
          expect(`what was written into ${log}`, rows[0].written, (rounds + 1) * TURNS * SALES * of)
        }
        await client.end()
      }
      const of = (way: Way) => roundsOf(figures[way], TURNS)
      return [
        toResult('capture-postgres', UNIT, of('tillsync'), of('bare'), { of: 'ratio', bound: '≤', value: 1.15 }),
        ...OLDER_WAYS.map((way) => toResult(`capture-postgres: ${way} triggers`, UNIT, of(way), of('bare'))),
      ]
    }),
}
