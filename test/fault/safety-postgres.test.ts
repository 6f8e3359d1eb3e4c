import type pg from 'pg'
import t from 'tap'
import { TillsyncError, type TillsyncErrorCode } from '../../src/index.ts'
import { Copy, settled } from '../support/copy.ts'
import { isDocumented } from '../support/documented.ts'
import { startServer } from '../support/postgres.ts'
import { contentsOf, HOST_STATEMENTS, openTwins, outcomeOf } from '../support/postgres-twin.ts'

/** Something done to the library's own tables and functions, by an administrator. */
interface Fault {
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

const COLUMN = {
  fail: /^(42703|23502) .*sync_touches/,
  documented: '| a column is dropped, renamed, or loses its default | go on, or SQLite refuses | fail, but for a dropped `xid` or `seen` |',
}
const OTHER_TABLE = { fail: /^42703 .*sync_touches/, documented: '| it is replaced by another table or view | fail | fail |' }
const CONSTRAINT = { fail: /^(23505|23514|P0001) /, documented: '| a unique index, a constraint or a trigger on it | fail | fail |' }
const RIGHTS = {
  fail: /^42501 .*sync_touches/,
  documented: '| its owner, rights or row security are changed, or the owner or rights of a trigger function | | fail: `42501` |',
}
const RAISING = `CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''not today''; END'`

const faults: Record<string, Fault> = {
  'nothing at all': { sql: 'SELECT 1' },
  'sync_touches dropped': { sql: 'DROP TABLE sync_touches' },
  'sync_touches renamed': { sql: 'ALTER TABLE sync_touches RENAME TO old_touches' },
  'sync_touches in another schema': { sql: 'ALTER TABLE sync_touches SET SCHEMA public', first: 'DROP TABLE public.sync_touches' },
  'sync_touches of foreign shape': {
    sql: 'DROP TABLE sync_touches; SET ROLE library; CREATE TABLE sync_touches (a int); RESET ROLE',
    sales: OTHER_TABLE,
  },
  'a view instead of sync_touches': {
    sql: 'DROP TABLE sync_touches; CREATE VIEW sync_touches AS SELECT 1 AS a',
    sales: OTHER_TABLE,
    seal: 'ERR_DATABASE',
    first: 'DROP VIEW sync_touches',
  },
  'a column of sync_touches renamed': { sql: 'ALTER TABLE sync_touches RENAME COLUMN kind TO sort', sales: COLUMN },
  'a column of sync_touches without its default': { sql: 'ALTER TABLE sync_touches ALTER COLUMN xid DROP DEFAULT', sales: COLUMN },
  'a column of sync_touches of another type': { sql: 'ALTER TABLE sync_touches ALTER COLUMN key TYPE text' },
  'a column more in sync_touches': { sql: 'ALTER TABLE sync_touches ADD own text' },
  'a unique index on sync_touches': { sql: 'CREATE UNIQUE INDEX own ON sync_touches (source, key)', sales: CONSTRAINT },
  'a constraint on sync_touches': { sql: 'ALTER TABLE sync_touches ADD CHECK (kind = 99) NOT VALID', sales: CONSTRAINT },
  'a trigger on sync_touches': {
    sql: `${RAISING}; CREATE TRIGGER own BEFORE INSERT ON sync_touches FOR EACH ROW EXECUTE FUNCTION own()`,
    sales: CONSTRAINT,
  },
  'a rule on sync_touches': { sql: 'CREATE RULE own AS ON INSERT TO sync_touches DO INSTEAD NOTHING' },
  'the index of sync_touches dropped': { sql: 'DROP INDEX sync_touches_xid_idx' },
  'sync_touches of another owner': { sql: 'ALTER TABLE sync_touches OWNER TO other', sales: RIGHTS },
  'rights on sync_touches revoked': { sql: 'REVOKE ALL ON sync_touches FROM library', sales: RIGHTS },
  'row security on sync_touches': {
    sql: 'ALTER TABLE sync_touches ENABLE ROW LEVEL SECURITY; ALTER TABLE sync_touches FORCE ROW LEVEL SECURITY',
    sales: RIGHTS,
  },
  'junk in sync_touches': {
    sql: `INSERT INTO sync_touches (source, kind, key) VALUES (99, 0, '{1}'), (1, 99, '{1}'), (1, 0, NULL), (1, 0, '{1,2,3}'), (1, 0, '{}'), (2, 0, '{NULL}')`,
  },
  'a function dropped with its triggers': { sql: 'DROP FUNCTION sync_touch_receipts() CASCADE' },
  'a function of another body': {
    sql: `CREATE OR REPLACE FUNCTION sync_touch_receipts() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'`,
  },
  'a function without its rights': { sql: 'ALTER FUNCTION sync_touch_receipts() SECURITY INVOKER', sales: RIGHTS },
  'a function of another owner': {
    sql: 'ALTER FUNCTION sync_touch_receipts() OWNER TO other',
    sales: { ...RIGHTS, fail: /^42501 / },
    first: 'ALTER FUNCTION sync_touch_receipts() OWNER TO library',
  },
  'a function that nobody may execute': { sql: 'REVOKE ALL ON FUNCTION sync_touch_receipts() FROM PUBLIC, library' },
  'a function without its search path': { sql: 'ALTER FUNCTION sync_touch_receipts() RESET ALL' },
  'a function renamed': { sql: 'ALTER FUNCTION sync_touch_receipts() RENAME TO own_touch' },
  'a trigger renamed': { sql: 'ALTER TRIGGER sync_touch ON receipts RENAME TO own' },
  'triggers disabled': { sql: 'ALTER TABLE receipts DISABLE TRIGGER USER; ALTER TABLE receipt_lines DISABLE TRIGGER USER' },
  'a later version': {
    sql: `UPDATE sync_state SET value = '99' WHERE key = 'version.capture'`,
    seal: 'ERR_SCHEMA_NEWER',
    first: `UPDATE sync_state SET value = '1' WHERE key = 'version.capture'`,
  },
  'junk in sync_members': { sql: `UPDATE sync_members SET hash = 'x', state = 'y'` },
}
for (const column of ['xid', 'seen', 'source', 'kind', 'key']) {
  faults[`${column} of sync_touches dropped`] = {
    sql: `ALTER TABLE sync_touches DROP COLUMN ${column}`,
    ...(!['xid', 'seen'].includes(column) && { sales: COLUMN }),
  }
}
for (const table of ['sync_sources', 'sync_state', 'sync_entries', 'sync_members', 'sync_parked']) {
  const lost = table === 'sync_members' ? { forgets: true } : table === 'sync_entries' ? { anew: true } : {}
  faults[`${table} dropped`] = { sql: `DROP TABLE ${table}`, ...(table !== 'sync_sources' && { seal: 'ERR_NOT_INSTALLED' }), ...lost }
}
for (const table of ['sync_state', 'sync_members']) {
  faults[`a view instead of ${table}`] = {
    sql: `DROP TABLE ${table}; CREATE VIEW ${table} AS SELECT 1 AS a`,
    seal: 'ERR_DATABASE',
    first: `DROP VIEW ${table}`,
    ...(table === 'sync_members' && { forgets: true }),
  }
}
for (const table of ['sync_sources', 'sync_entries']) {
  faults[`${table} of another owner`] = {
    sql: `ALTER TABLE ${table} OWNER TO other`,
    seal: 'ERR_DATABASE',
    first: `ALTER TABLE ${table} OWNER TO library`,
  }
}

const server = await startServer(t)
const twins = await openTwins(t, server)

async function outcomesOf(client: pg.Client, statements: readonly string[]) {
  const outcomes = []
  for (const sql of statements) outcomes.push(await outcomeOf(client, sql))
  return outcomes
}

for (const [name, fault] of Object.entries(faults)) {
  t.test(`${name}: the host's statements ${fault.sales ? 'fail as documented' : 'do what they do without us'}, and nothing is lost`, async (t) => {
    const { admin, own, twin, replica, again } = await twins(t)
    const copy = new Copy()
    await copy.read(replica)
    for (const one of [own, twin])
      await one.query(`INSERT INTO receipts (id, receipt_no) VALUES (7, 'unsealed'); UPDATE receipts SET total = 41 WHERE id = 4`)
    await admin.query(fault.sql)

    const failed: string[] = []
    const compared: { what: string; outcomes: unknown; wanted: unknown }[] = []
    for (const [what, statements] of Object.entries(HOST_STATEMENTS)) {
      for (const transaction of statements[0] === 'BEGIN' ? [statements] : statements.map((sql) => [sql])) {
        const outcomes = await outcomesOf(own, transaction)
        const fails = outcomes.some(({ code, message }) => fault.sales?.fail.test(`${code} ${message}`))
        // What fails takes numbers from sequences, and nothing else.
        const wanted = await outcomesOf(
          twin,
          fails ? ['BEGIN', ...transaction.filter((sql) => !/^(BEGIN|COMMIT)$/.test(sql)), 'ROLLBACK'] : transaction,
        )
        if (fails) await own.query('ROLLBACK')
        if (fails) failed.push(what)
        else compared.push({ what, outcomes, wanted })
      }
    }
    t.same(
      compared.map(({ what, outcomes }) => [what, outcomes]),
      compared.map(({ what, wanted }) => [what, wanted]),
    )
    t.same(await contentsOf(own), await contentsOf(twin))
    t.equal(failed.length > 0, fault.sales !== undefined)
    t.notOk(failed.includes('beside them'), 'nothing fails that is not published')
    if (fault.sales) isDocumented(t, fault.sales.documented)

    await replica.seal().catch((error) => t.ok(error instanceof TillsyncError, `${error}`))
    await replica.stop()
    const mended = again()
    if (fault.seal) await t.rejects(mended.seal(), { name: 'TillsyncError', code: fault.seal })
    else await t.resolves(mended.seal())
    if (fault.first) await admin.query(fault.first)
    await mended.install()
    await settled(mended)
    t.match(await outcomeOf(own, `INSERT INTO receipts (id, receipt_no) VALUES (100, 'R-100')`), { rowCount: 1 })
    await settled(mended)
    await copy.read(mended, fault.anew)
    const [receipts = [], lines] = await contentsOf(own)
    const standing = new Set(receipts.map(({ id }) => String(id)))
    t.same(copy.contents(fault.forgets ? standing : undefined), [receipts, lines], 'head office has what stands there')
    t.match(await mended.status(), { unsealed: 0, lastError: undefined, problems: [], resealing: [] })
  })
}
