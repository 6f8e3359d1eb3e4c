import pg from 'pg'
import type { Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { createRegister, type Register } from '../../src/index.ts'
import { openPool, type Postgres } from './postgres.ts'

/** A POS application's tables: receipts with lines are published, the drawer is not. */
const TABLES = `
  CREATE TABLE receipts (id serial PRIMARY KEY, receipt_no text NOT NULL UNIQUE, status text NOT NULL DEFAULT 'posted', total integer CHECK (total < 1000000));
  CREATE TABLE receipt_lines (id serial PRIMARY KEY, receipt_id integer NOT NULL REFERENCES receipts ON DELETE CASCADE, line_no integer NOT NULL, item_no text,
    UNIQUE (receipt_id, line_no));
  CREATE TABLE drawer (id serial PRIMARY KEY, opened_at text NOT NULL);
  INSERT INTO receipts (receipt_no, total) VALUES ('R-1', 10), ('R-2', 20), ('R-3', 30), ('R-4', 40);
  INSERT INTO receipt_lines (receipt_id, line_no, item_no) VALUES (1, 1, 'A'), (2, 1, 'B'), (3, 1, 'C'), (4, 1, 'D'), (4, 2, 'E')`
export const HOST_PUBLISH = { receipts: { existing: 'all' }, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } } as const

/** What a host does to roots, to parts and beside them; some of it breaks the host's own constraints. An array is a transaction, where it begins one. */
export const HOST_STATEMENTS: Readonly<Record<string, readonly string[]>> = {
  'an insert': ["INSERT INTO receipts (receipt_no, total) VALUES ('R-10', 1)"],
  'an insert of many rows': ["INSERT INTO receipts (id, receipt_no) VALUES (20, 'R-20'), (21, 'R-21'), (22, 'R-22')"],
  'an insert from a select that returns': [
    "INSERT INTO receipts (receipt_no) SELECT receipt_no || 'x' FROM receipts WHERE id < 3 ORDER BY id RETURNING id, receipt_no",
  ],
  'an insert that does nothing': ["INSERT INTO receipts (id, receipt_no) VALUES (1, 'R-1'), (40, 'R-40') ON CONFLICT DO NOTHING RETURNING id"],
  'an insert that fails midway': ["INSERT INTO receipts (id, receipt_no) VALUES (50, 'R-50'), (51, 'R-1')"],
  'an upsert': [
    "INSERT INTO receipts (id, receipt_no, total) VALUES (1, 'R-1', 11), (60, 'R-60', 6) ON CONFLICT (id) DO UPDATE SET total = excluded.total",
  ],
  'an update': ['UPDATE receipts SET total = total + 1 WHERE id <= 2'],
  'an update of nothing': ['UPDATE receipts SET total = 1 WHERE id = 999'],
  'an update that returns': ['UPDATE receipts SET total = 77 WHERE id = 2 RETURNING id, total'],
  'an update of a key': ['UPDATE receipts SET id = 70 WHERE id = 20'],
  'an update that breaks a constraint': ['UPDATE receipts SET total = 1000000'],
  'a delete with its lines': ['DELETE FROM receipts WHERE id = 3'],
  'a delete of nothing': ['DELETE FROM receipts WHERE id = 999'],
  'lines inserted': ["INSERT INTO receipt_lines (receipt_id, line_no, item_no) VALUES (1, 2, 'F'), (2, 2, 'G')"],
  'a line that breaks a foreign key': ['INSERT INTO receipt_lines (receipt_id, line_no) VALUES (12345, 1)'],
  'a line moved': ['UPDATE receipt_lines SET receipt_id = 2, line_no = 3 WHERE id = 1'],
  'lines deleted': ['DELETE FROM receipt_lines WHERE receipt_id = 1 RETURNING id'],
  sequences: ["SELECT lastval()::int, currval('receipts_id_seq')::int"],
  'a sale in a transaction with the drawer': [
    'BEGIN',
    "INSERT INTO drawer (opened_at) VALUES ('now')",
    "INSERT INTO receipts (id, receipt_no) VALUES (90, 'R-90')",
    "INSERT INTO receipt_lines (receipt_id, line_no, item_no) VALUES (2, 90, 'K')",
    "UPDATE drawer SET opened_at = 'later'",
    'COMMIT',
  ],
  'a savepoint taken back': [
    'BEGIN',
    'SAVEPOINT s',
    'DELETE FROM receipts WHERE id = 2',
    'ROLLBACK TO s',
    'UPDATE receipts SET total = 5 WHERE id = 2',
    'COMMIT',
  ],
  'a transaction taken back': ['BEGIN', 'DELETE FROM receipts', 'ROLLBACK'],
  'beside them': ["INSERT INTO drawer (opened_at) VALUES ('again')", 'DELETE FROM drawer WHERE id = 1', 'SELECT count(*) FROM receipts'],
  'lines emptied': ['TRUNCATE receipt_lines', 'INSERT INTO receipt_lines (id, receipt_id, line_no) VALUES (500, 1, 1)'],
}

/** What the host gets from a statement: rows, counts, or an error with its SQLSTATE. */
export async function outcomeOf(client: pg.Client, sql: string): Promise<{ readonly code?: string; readonly message?: string }> {
  try {
    const { command, rowCount, rows } = await client.query(sql)
    return { command, rowCount, rows } as object
  } catch (error) {
    const { code, message, constraint } = error as pg.DatabaseError
    return { code, message, constraint } as { code: string }
  }
}

/** A till and the same tables without us, in two schemas of one database; the library and the cashier have a role each. */
export interface Twins {
  readonly admin: pg.Pool
  readonly library: pg.Pool
  /** The cashier's sessions: with us, and without. */
  readonly own: pg.Client
  readonly twin: pg.Client
  readonly replica: Register
  /** The same register after a restart. */
  again(): Register
  readonly schema: string
}

const ROLES = ['library', 'cashier', 'other']

/** One database for many twins, each in schemas of its own; connections are shared, for each takes a while. */
export async function openTwins(t: Test, server: Postgres): Promise<(t: Test) => Promise<Twins>> {
  const { config } = await server.createDatabase()
  const as = (user: string) => ({ ...config, user, password: 'x' })
  const admin = openPool(t, { ...config, max: 1 })
  for (const role of ROLES) await admin.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'`)
  const library = openPool(t, { ...as('library'), max: 4 })
  const [own, twin] = [await session(t, as('cashier')), await session(t, as('cashier'))]
  let count = 0
  return async (t) => {
    count++
    const schemas = [`till_${count}`, `twin_${count}`] as const
    for (const [n, client] of [own, twin].entries()) {
      await admin.query(tablesIn(schemas[n] as string))
      await client.query('DISCARD ALL')
      await client.query(`SET search_path = ${schemas[n]}`)
    }
    await admin.query(`SET search_path = ${schemas[0]}`)
    t.teardown(() => admin.query(`DROP SCHEMA ${schemas[0]}, ${schemas[1]} CASCADE`))
    const again = (): Register => {
      const replica = createRegister({ location: 'A', register: '1', database: postgres(library, { schema: schemas[0] }), publish: HOST_PUBLISH })
      t.teardown(() => replica.stop())
      return replica
    }
    const replica = again()
    await replica.install()
    await replica.seal()
    return { admin, library, own, twin, replica, again, schema: schemas[0] }
  }
}

function tablesIn(schema: string): string {
  const grants = `GRANT USAGE ON SCHEMA ${schema} TO cashier; GRANT ALL ON ALL TABLES IN SCHEMA ${schema} TO cashier; GRANT ALL ON ALL SEQUENCES IN SCHEMA ${schema} TO cashier`
  return `CREATE SCHEMA ${schema} AUTHORIZATION library; SET ROLE library; SET search_path = ${schema}; ${TABLES}; ${grants}; RESET ROLE`
}

async function session(t: Test, config: pg.ClientConfig): Promise<pg.Client> {
  const client = new pg.Client(config)
  client.on('error', () => undefined)
  await client.connect()
  t.teardown(() => client.end())
  return client
}

/** All that stands in the host's own tables: receipts, lines, drawer. */
export async function contentsOf(client: pg.Client): Promise<readonly { readonly id: number }[][]> {
  const tables = []
  for (const table of ['receipts', 'receipt_lines', 'drawer']) tables.push((await client.query(`SELECT * FROM ${table} ORDER BY id`)).rows)
  return tables
}
