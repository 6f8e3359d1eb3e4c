import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { watchCommits } from '../../src/adapters/sqlite/watch.ts'
import { eventually } from '../support/eventually.ts'

/** The poll that stands behind the watcher. */
const POLL_MS = 1_000

const versionOf = (db: Database.Database) => db.pragma('data_version', { simple: true }) as number

t.test('a commit is noticed that can be seen only some time after its pages are written, as on a slow disk', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tillsync-'))
  const file = join(folder, 'till.sqlite')
  const [host, own] = [new Database(file), new Database(file)]
  host.pragma('journal_mode = WAL')
  host.exec('CREATE TABLE sales (id INTEGER PRIMARY KEY)')
  // What the library's connection sees, so many milliseconds late.
  let [seen, until] = [versionOf(own), 0]
  const late = {
    isOpen: true,
    dataVersion: () => {
      if (performance.now() > until) seen = versionOf(own)
      return seen
    },
  }
  let noticed = 0
  const unwatch = watchCommits(late, file, () => noticed++)
  t.teardown(() => {
    unwatch()
    host.close()
    own.close()
    rmSync(folder, { recursive: true })
  })
  t.equal(noticed, 1, 'at once')
  const lags: number[] = []
  for (let n = 1; n <= 5; n++) {
    const before = noticed
    const began = performance.now()
    until = began + 30
    host.prepare('INSERT INTO sales VALUES (?)').run(n)
    await eventually(`sale ${n} is noticed`, () => noticed > before)
    lags.push(performance.now() - began)
  }
  // What the poll finds comes just after it, the next one a whole round later.
  t.ok(Math.min(...lags.slice(1)) < POLL_MS / 2, `not by the poll: ${lags.map(Math.round)} ms`)
})

t.test(
  'a database that was opened by a link, or by a relative name before the process went to another folder, is watched all the same',
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'tillsync-'))
    const [file, link, before] = [join(folder, 'till.sqlite'), join(folder, 'linked', 'pos.sqlite'), process.cwd()]
    const host = new Database(file)
    host.pragma('journal_mode = WAL')
    host.exec('CREATE TABLE sales (id INTEGER PRIMARY KEY)')
    mkdirSync(join(folder, 'linked'))
    symlinkSync(file, link)
    process.chdir(folder)
    const databases = [sqlite(() => new Database(link)), sqlite(() => new Database('till.sqlite'))]
    for (const database of databases) await database.open()
    process.chdir(before)
    const noticed = databases.map(() => 0)
    const ends = databases.map((database, n) => database.watch(() => (noticed[n] as number)++))
    t.teardown(async () => {
      for (const end of ends) end()
      for (const database of databases) await database.close()
      host.close()
      rmSync(folder, { recursive: true })
    })
    for (const n of databases.keys()) {
      const lags: number[] = []
      for (let sale = 1; sale <= 5; sale++) {
        const seen = noticed[n] as number
        const began = performance.now()
        host.exec('INSERT INTO sales DEFAULT VALUES')
        await eventually(`sale ${sale} is noticed`, () => (noticed[n] as number) > seen)
        lags.push(performance.now() - began)
      }
      t.ok(Math.min(...lags.slice(1)) < POLL_MS / 2, `not by the poll: ${lags.map(Math.round)} ms`)
    }
  },
)
