import t from 'tap'
import { onEachDatabase } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'

const server = await startServer(t)

const TABLES = `
  CREATE TABLE processes (id INTEGER PRIMARY KEY, no TEXT UNIQUE);
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, process_id INTEGER);
  CREATE INDEX receipts_process_id ON receipts (process_id)`
const COUNT = 2_500

onEachDatabase(t, server, 'a list of thousands is exported, with what is related', TABLES, async (t, host) => {
  const till = host.create({ processes: {}, receipts: { relatedTo: { processes: { process_id: 'id' } } } })
  await till.install()
  const ids = Array.from({ length: COUNT }, (_, n) => n + 1)
  await host.exec(
    `INSERT INTO processes VALUES ${ids.map((id) => `(${id}, 'P-${id}')`).join()}; INSERT INTO receipts VALUES (7, 1), (8, 2499), (9, NULL)`,
  )
  await till.seal()
  const which = ids.filter((id) => id !== 5).map((id) => ({ id, no: `P-${id}` }))
  const waiting: { sealed: number; left: Promise<readonly unknown[]> }[] = []
  till.on('sealed', ({ documents }) =>
    waiting.push({ sealed: documents, left: host.query('SELECT CAST(count(*) AS INTEGER) AS touches FROM sync_touches') }),
  )
  t.same(await till.export('processes', which), { documents: COUNT - 1, entries: COUNT - 1 })
  const [first] = waiting
  // PostgreSQL answers when the next slice is sealed, perhaps.
  if (host.dialect === 'sqlite')
    t.same(await first?.left, [{ touches: COUNT - 1 - (first?.sealed ?? 0) }], 'sealed together, not a hundred at a time')
  t.same(await till.export('processes', which, { related: true }), { documents: COUNT + 1, entries: COUNT + 1 })
  t.equal((await till.trace('processes', which.slice(0, 100))).length, 100)
  await t.rejects(till.trace('processes', which), { code: 'ERR_OPTION', hint: /several/ })
})
