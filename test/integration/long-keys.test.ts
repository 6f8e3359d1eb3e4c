import t from 'tap'
import { onEachDatabase } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'

const server = await startServer(t)

onEachDatabase(
  t,
  server,
  'a document whose key is too long for an index waits alone',
  'CREATE TABLE notes (id VARCHAR(4000) NOT NULL PRIMARY KEY, total INTEGER)',
  async (t, host) => {
    const till = host.create({ notes: {} })
    await till.install()
    // What an index of PostgreSQL could compress would be no test.
    const long = Array.from({ length: 150 }, (_, n) => `${Math.sin(n + 1)}`)
      .join('|')
      .slice(2, 2_300)
    await host.exec(`INSERT INTO notes VALUES ('short', 1), ('${long}', 2), ('${'ü'.repeat(900)}', 3)`)
    t.equal((await till.seal()).documents, 2)
    t.match((await till.status()).parked, [{ table: 'notes', code: 'ERR_TOO_LARGE' }])
    t.match(await till.trace('notes', { total: 2 }), [{ now: 'unreadable' }])
    await till.reseal('notes')
    t.equal((await till.status()).parked.length, 1, 'and is parked again by a reseal')
    await host.exec(`UPDATE notes SET id = 'shorter' WHERE total = 2`)
    t.equal((await till.seal()).documents, 1)
    await till.reseal('notes')
    t.same((await till.status()).parked, [])
  },
)
