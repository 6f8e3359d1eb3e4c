import Database from 'better-sqlite3'
import t, { type Test } from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister, type Register, TillsyncError, type TillsyncErrorCode } from '../../src/index.ts'
import { Copy, settled } from '../support/copy.ts'
import { isDocumented } from '../support/documented.ts'
import { eventually } from '../support/eventually.ts'
import { openDatabase } from '../support/shop.ts'
import { contentsOf, HOST_PUBLISH, HOST_STATEMENTS, HOST_TABLES, outcomeOf } from '../support/twin.ts'

/** Something done to the library's own tables. */
interface Fault {
  /** What is done, by the host's connection. */
  readonly sql: string
  /** With what the host's statements fail, and the words by which the guarantees say so. Without it none fails. */
  readonly sales?: { readonly fail: RegExp; readonly documented: string }
  /** What `seal()` rejects with after a restart; without it it works. Before, too, it never throws but a TillsyncError. */
  readonly seal?: TillsyncErrorCode
  /** What the documents say is to be done before `install()`. */
  readonly first?: string
  /** Deletions of what was given before are not known any more. */
  readonly forgets?: boolean
  /** Entries are numbered anew. */
  readonly anew?: boolean
}

const NO_TABLE = { fail: /no such table: main.sync_touches/, documented: '| it is dropped | fail: `no such table` | go on |' }
const OTHER_TABLE = {
  fail: /has no column named|cannot modify sync_touches/,
  documented: '| it is replaced by another table or view | fail | fail |',
}
const CONSTRAINT = {
  fail: /UNIQUE constraint failed: sync_touches|not today/,
  documented: '| a unique index, a constraint or a trigger on it | fail | fail |',
}

/** Tables without which nothing can be sealed. */
const NEEDED = ['sync_entries', 'sync_members', 'sync_parked']
/** Tables that are not needed for what the matrix does. */
const OTHERS = ['sync_withheld', 'sync_digests', 'sync_peers']

const faults: Record<string, Fault> = {
  'nothing at all': { sql: 'SELECT 1' },
  'sync_touches dropped': { sql: 'DROP TABLE sync_touches', sales: NO_TABLE },
  'sync_touches renamed': { sql: 'ALTER TABLE sync_touches RENAME TO old_touches' },
  'sync_touches of foreign shape': { sql: 'DROP TABLE sync_touches; CREATE TABLE sync_touches (a, b)', sales: OTHER_TABLE },
  'a view instead of sync_touches': {
    sql: 'DROP TABLE sync_touches; CREATE VIEW sync_touches AS SELECT 1 AS touch',
    sales: OTHER_TABLE,
    seal: 'ERR_DATABASE',
    first: 'DROP VIEW sync_touches',
  },
  'a column of sync_touches renamed': { sql: 'ALTER TABLE sync_touches RENAME COLUMN k1 TO key' },
  'a column more in sync_touches': { sql: 'ALTER TABLE sync_touches ADD COLUMN own TEXT' },
  'a unique index on sync_touches': { sql: 'CREATE UNIQUE INDEX own ON sync_touches (source, k1)', sales: CONSTRAINT },
  'a trigger on sync_touches': {
    sql: `CREATE TRIGGER own BEFORE INSERT ON sync_touches BEGIN SELECT RAISE(ABORT, 'not today'); END`,
    sales: CONSTRAINT,
  },
  'junk in sync_touches': {
    sql: `INSERT INTO sync_touches (source, kind, k1) VALUES (NULL, NULL, NULL), (99, 0, 1), (1, 99, 'x'), (1, 0, x'00ff'), ('x', 'y', 'z'), (1, 0, NULL), (2, 1, 1e300)`,
  },
  'sync_sources dropped': { sql: 'DROP TABLE sync_sources' },
  'sync_sources emptied': { sql: 'DELETE FROM sync_sources' },
  'sync_sources of foreign shape': {
    sql: 'DROP TABLE sync_sources; CREATE TABLE sync_sources (a)',
    seal: 'ERR_DATABASE',
    first: 'DROP TABLE sync_sources',
  },
  'junk in sync_sources': { sql: `UPDATE sync_sources SET refers = 'x'`, first: 'DROP TABLE sync_sources' },
  'sync_state dropped': { sql: 'DROP TABLE sync_state', seal: 'ERR_NOT_INSTALLED' },
  'sync_state emptied': { sql: 'DELETE FROM sync_state', seal: 'ERR_NOT_INSTALLED' },
  'sync_state of foreign shape': { sql: 'DROP TABLE sync_state; CREATE TABLE sync_state (a)', seal: 'ERR_DATABASE', first: 'DROP TABLE sync_state' },
  'junk in sync_state': { sql: `UPDATE sync_state SET value = 'junk'`, seal: 'ERR_NOT_INSTALLED', first: 'DROP TABLE sync_state' },
  'a later version': {
    sql: `UPDATE sync_state SET value = '99' WHERE key = 'version.capture'`,
    seal: 'ERR_SCHEMA_NEWER',
    first: `UPDATE sync_state SET value = '1' WHERE key = 'version.capture'`,
  },
  'an earlier version': { sql: `UPDATE sync_state SET value = '0' WHERE key = 'version.capture'`, seal: 'ERR_NOT_INSTALLED' },
  'a column of sync_entries renamed': {
    sql: 'ALTER TABLE sync_entries RENAME COLUMN record TO content',
    seal: 'ERR_DATABASE',
    first: 'ALTER TABLE sync_entries RENAME COLUMN content TO record',
  },
  'junk in sync_entries': { sql: `UPDATE sync_entries SET digest = 'x', record = 'x', document = 'y'` },
  'junk in sync_members': {
    sql: `UPDATE sync_members SET hash = 'x', state = 'y'`,
    seal: 'ERR_DATABASE',
    first: 'DROP TABLE sync_members',
    forgets: true,
  },
  'a check on sync_entries': {
    sql: `CREATE TRIGGER own BEFORE INSERT ON sync_entries BEGIN SELECT RAISE(ABORT, 'not today'); END`,
    seal: 'ERR_DATABASE',
    first: 'DROP TRIGGER own',
  },
}
for (const table of [...NEEDED, ...OTHERS]) {
  const [gone, foreign] = NEEDED.includes(table) ? ([{ seal: 'ERR_NOT_INSTALLED' }, { seal: 'ERR_DATABASE' }] as const) : []
  const lost = table === 'sync_members' ? { forgets: true } : table === 'sync_entries' ? { anew: true } : {}
  faults[`${table} dropped`] = { sql: `DROP TABLE ${table}`, ...gone, ...lost }
  faults[`${table} renamed`] = { sql: `ALTER TABLE ${table} RENAME TO old_${table}`, ...gone, ...lost }
  faults[`${table} of foreign shape`] = {
    sql: `DROP TABLE ${table}; CREATE TABLE ${table} (a, b)`,
    first: `DROP TABLE ${table}`,
    ...foreign,
    ...lost,
  }
}

const open = (file: string): Register =>
  createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(file)), publish: HOST_PUBLISH })

/** A till, and the same tables without us. */
async function twins(t: Test) {
  const [own, bare] = [openDatabase(t, HOST_TABLES), openDatabase(t, HOST_TABLES)]
  for (const { db } of [own, bare]) db.pragma('foreign_keys = ON')
  const replica = open(own.file)
  t.teardown(() => replica.stop())
  await replica.install()
  await replica.seal()
  const again = (): Register => {
    const other = open(own.file)
    t.teardown(() => other.stop())
    return other
  }
  return { file: own.file, db: own.db, twin: bare.db, replica, again }
}

for (const [name, fault] of Object.entries(faults)) {
  t.test(`${name}: the host's statements ${fault.sales ? 'fail as documented' : 'do what they do without us'}, and nothing is lost`, async (t) => {
    const { db, twin, replica, again } = await twins(t)
    const copy = new Copy()
    await copy.read(replica)
    for (const one of [db, twin])
      one.exec(`INSERT INTO receipts (id, receipt_no) VALUES (7, 'unsealed'); UPDATE receipts SET total = 41 WHERE id = 4`)
    db.exec(fault.sql)

    const failed: string[] = []
    const compared: { sql: string; outcome: unknown; wanted: unknown }[] = []
    for (const sql of Object.values(HOST_STATEMENTS).flat()) {
      const outcome = outcomeOf(db, sql)
      if (fault.sales?.fail.test(String((outcome as { message?: string }).message))) failed.push(sql)
      else compared.push({ sql, outcome, wanted: outcomeOf(twin, sql) })
    }
    t.same(
      compared.map(({ sql, outcome }) => [sql, outcome]),
      compared.map(({ sql, wanted }) => [sql, wanted]),
    )
    t.same(contentsOf(db), contentsOf(twin))
    t.equal(failed.length > 0, fault.sales !== undefined)
    t.ok(
      failed.every((sql) => / receipt/.test(sql)),
      'nothing fails that is not published',
    )
    if (fault.sales) isDocumented(t, fault.sales.documented)

    await replica.seal().catch((error) => t.ok(error instanceof TillsyncError, `${error}`))
    await replica.stop()
    const mended = again()
    if (fault.seal) await t.rejects(mended.seal(), { name: 'TillsyncError', code: fault.seal })
    else await t.resolves(mended.seal())
    if (fault.first) db.exec(fault.first)
    await mended.install()
    await settled(mended)
    for (const one of [db, twin]) {
      one.prepare('SELECT * FROM receipts').all() // reads the schema anew, as documented
      t.match(outcomeOf(one, `INSERT INTO receipts (id, receipt_no) VALUES (100, 'R-100')`), { changes: 1 })
    }
    await settled(mended)
    await copy.read(mended, fault.anew)
    const standing = new Set((db.prepare('SELECT id FROM receipts').pluck().all() as number[]).map(String))
    t.same(copy.contents(fault.forgets ? standing : undefined), (contentsOf(db) as unknown[]).slice(0, 2), 'head office has what stands there')
    t.match(await mended.status(), { unsealed: 0, lastError: undefined, problems: [], resealing: [] })
  })
}

t.test('a sale that was not sealed when sync_state was dropped is sealed, and not withheld as if it had always been there', async (t) => {
  const { file, db } = openDatabase(t, HOST_TABLES)
  const replica = createRegister({ location: 'A', register: '1', database: sqlite(() => new Database(file)), publish: { receipts: {} } })
  t.teardown(() => replica.stop())
  await replica.install()
  await replica.seal()
  db.exec(`INSERT INTO receipts (id, receipt_no) VALUES (7, 'unsealed'); DROP TABLE sync_state`)
  await replica.stop()
  await replica.install()
  t.same(await replica.seal(), { documents: 1, entries: 1 })
  t.match(await replica.entries(), [{ operation: 'upsert', recordId: [7] }])
  t.same(db.prepare(`SELECT count(*) FROM sync_members WHERE state = 'withheld'`).pluck().get(), 4)
})

t.test('a running register whose tables are dropped goes on by itself after install()', async (t) => {
  const { db, replica } = await twins(t)
  await replica.start()
  db.exec('DROP TABLE sync_entries; DROP TABLE sync_parked')
  db.exec(`INSERT INTO receipts (id, receipt_no) VALUES (7, 'unseen')`)
  await eventually(
    'it says so',
    async () =>
      await replica.seal().then(
        () => false,
        (error) => error.code === 'ERR_NOT_INSTALLED',
      ),
  )
  await replica.install()
  await eventually('it is sealed', async () => (await replica.entries()).some(({ recordId }) => recordId[0] === 7))
})
