import { setTimeout as sleep } from 'node:timers/promises'
import t from 'tap'
import type { Register } from '../../src/index.ts'
import { type Host, onEachDatabase } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'

const server = await startServer(t)

const TABLES = `
  CREATE TABLE processes (id INTEGER PRIMARY KEY, no TEXT UNIQUE);
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, process_id INTEGER);
  CREATE INDEX receipts_process_id ON receipts (process_id)`
const COUNT = 2_500

/** How many documents an export that begins now touches before the first of them is sealed. */
async function touchedBeforeSealing(till: Register, host: Host): Promise<() => Promise<number>> {
  const count = async () => Number(((await host.query('SELECT count(*) AS touches FROM sync_touches')) as { touches: unknown }[])[0]?.touches)
  if (host.dialect === 'sqlite') {
    const counts: Promise<number>[] = []
    till.on('sealed', ({ documents }) => counts.push(count().then((left) => documents + left)))
    return async () => (await counts[0]) ?? 0
  }
  // Nothing can be sealed until all are touched, or nothing more is for long.
  const held = host.exec(`
    LOCK TABLE sync_entries IN ACCESS EXCLUSIVE MODE;
    CREATE TABLE touched AS SELECT 0 AS touches;
    DO $$ BEGIN
      FOR n IN 1..150 LOOP
        UPDATE touched SET touches = (SELECT count(*) FROM sync_touches);
        EXIT WHEN (SELECT touches FROM touched) >= ${COUNT - 1};
        PERFORM pg_sleep(0.1);
      END LOOP;
    END $$`)
  const isHeld = `SELECT FROM pg_locks WHERE relation = 'sync_entries'::regclass AND mode = 'AccessExclusiveLock' AND granted`
  while ((await host.query(isHeld)).length === 0) await sleep(10)
  return async () => {
    await held
    return Number(((await host.query('SELECT touches FROM touched')) as { touches: unknown }[])[0]?.touches)
  }
}

onEachDatabase(t, server, 'a list of thousands is exported, with what is related', TABLES, async (t, host) => {
  const till = host.create({ processes: {}, receipts: { relatedTo: { processes: { process_id: 'id' } } } })
  await till.install()
  const ids = Array.from({ length: COUNT }, (_, n) => n + 1)
  await host.exec(
    `INSERT INTO processes VALUES ${ids.map((id) => `(${id}, 'P-${id}')`).join()}; INSERT INTO receipts VALUES (7, 1), (8, 2499), (9, NULL)`,
  )
  await till.seal()
  const which = ids.filter((id) => id !== 5).map((id) => ({ id, no: `P-${id}` }))
  const touched = await touchedBeforeSealing(till, host)
  t.same(await till.export('processes', which), { documents: COUNT - 1, entries: COUNT - 1 })
  t.equal(await touched(), COUNT - 1, 'sealed together, not a hundred at a time')
  t.same(await till.export('processes', which, { related: true }), { documents: COUNT + 1, entries: COUNT + 1 })
  t.equal((await till.trace('processes', which.slice(0, 100))).length, 100)
  await t.rejects(till.trace('processes', which), { code: 'ERR_OPTION', hint: /several/ })
})
