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

onEachDatabase(
  t,
  server,
  'what is long is sealed in slices that hold little at once, and none is left',
  'CREATE TABLE photos (id INTEGER PRIMARY KEY, photo TEXT)',
  async (t, host) => {
    const till = host.create({ photos: {} })
    await till.install()
    const slices: number[] = []
    till.on('sealed', ({ documents }) => slices.push(documents))
    const photo = (mb: number) => `'${'x'.repeat(mb * 1_048_576)}'`
    for (let id = 1; id <= 24; id++) await host.exec(`INSERT INTO photos VALUES (${id}, ${photo(id === 20 ? 18 : 1)})`)
    t.equal((await till.seal()).documents, 24)
    t.ok(Math.max(...slices) <= 16, `${slices}`)
    await host.exec('UPDATE photos SET photo = NULL')
    t.equal((await till.seal()).documents, 24)
  },
)
