import { randomBytes } from 'node:crypto'
import { copyFileSync, rmSync } from 'node:fs'
import Database from 'better-sqlite3'
import type { Pool } from 'pg'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { type AnyTables, type AudienceRules, type Central, createCentral, createRegister, mirror, type Register } from '../../src/index.ts'
import { memoryLink } from '../../src/transport/memory.ts'
import { scripted } from '../support/links.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { argument, budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { openDatabase } from '../support/shop.ts'
import { type RowBackup, Rows } from '../support/simulation/row-backup.ts'

// Root tables that refer to each other in circles and to themselves, with unique values that move, parts that change their documents, keys that change, at tills with the same constraints, pushed
// and pulled, from two processes of central, while head office goes on: once it is calm, each till holds what is meant for it, and nothing waits.

const ROUNDS = Number(argument('rounds') ?? 2)
const STEPS = Number(argument('steps') ?? 40)
t.setTimeout(budgetOfRun(60_000) + 180_000)
const server = await startServer(t)
const seed = seedOfRun()

const GROUPS = ['A', 'B']
const DEFERRED = 'DEFERRABLE INITIALLY DEFERRED'
const OFFICE = `
  CREATE TABLE contacts (id bigint PRIMARY KEY, name text NOT NULL, code text UNIQUE ${DEFERRED}, favourite text);
  CREATE TABLE items (item_no text PRIMARY KEY, parent text REFERENCES items ON UPDATE CASCADE ON DELETE SET NULL ${DEFERRED},
    supplier bigint REFERENCES contacts ON DELETE SET NULL ${DEFERRED}, plu bigint NOT NULL UNIQUE ${DEFERRED});
  ALTER TABLE contacts ADD FOREIGN KEY (favourite) REFERENCES items ON UPDATE CASCADE ON DELETE SET NULL ${DEFERRED};
  CREATE TABLE price_lists (id bigint PRIMARY KEY, name text NOT NULL UNIQUE ${DEFERRED}, grp text NOT NULL);
  CREATE TABLE price_list_lines (id bigint PRIMARY KEY ${DEFERRED}, list_id bigint NOT NULL REFERENCES price_lists ON DELETE CASCADE, item_no text NOT NULL REFERENCES items ON UPDATE CASCADE ON DELETE CASCADE,
    price numeric(10, 2), UNIQUE (list_id, item_no) ${DEFERRED});
  CREATE INDEX ON price_list_lines (list_id); CREATE INDEX ON price_list_lines (item_no); CREATE INDEX ON items (supplier); CREATE INDEX ON items (parent); CREATE INDEX ON contacts (favourite)`

/** With constraints that are looked at when the transaction ends, or at once. */
function tillTables(random: Random): string {
  const when = () => (random.chance(0.4) ? DEFERRED : '')
  return `
  CREATE TABLE contacts (id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(50) NOT NULL, code VARCHAR(50) UNIQUE, favourite VARCHAR(50));
  CREATE TABLE items (item_no VARCHAR(50) NOT NULL PRIMARY KEY, parent VARCHAR(50) REFERENCES items (item_no) ${when()}, supplier BIGINT REFERENCES contacts (id) ${when()},
    plu BIGINT NOT NULL UNIQUE, printed INTEGER NOT NULL DEFAULT 0);
  CREATE TABLE price_lists (id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(50) NOT NULL UNIQUE, grp VARCHAR(5) NOT NULL);
  CREATE TABLE price_list_lines (id BIGINT NOT NULL PRIMARY KEY, list_id BIGINT NOT NULL REFERENCES price_lists (id) ${when()},
    item_no VARCHAR(50) NOT NULL REFERENCES items (item_no) ${when()}, price NUMERIC(10, 2), UNIQUE (list_id, item_no));
  CREATE INDEX lines_of_list ON price_list_lines (list_id); CREATE INDEX lines_of_item ON price_list_lines (item_no); CREATE INDEX items_of ON items (supplier); CREATE INDEX items_in ON items (parent);
  CREATE INDEX fans ON contacts (favourite)`
}
const SELECTS: Readonly<Record<string, (group: string) => string>> = {
  contacts: () => 'SELECT id, name, code, favourite FROM contacts',
  items: () => 'SELECT item_no, parent, supplier, plu FROM items',
  price_lists: (group) => `SELECT id, name, grp FROM price_lists WHERE grp = '${group}'`,
  price_list_lines: (group) =>
    `SELECT id, list_id, item_no, CAST(round(price * 100) AS INTEGER) AS price FROM price_list_lines WHERE list_id IN (SELECT id FROM price_lists WHERE grp = '${group}')`,
}
const PUBLISH: AudienceRules<AnyTables> = {
  contacts: {},
  items: {},
  price_lists: { where: (eb, { attributes }) => eb('grp', '=', attributes.group) },
  price_list_lines: { partOf: { price_lists: { list_id: 'id' } } },
}

/** A statement of head office's people; one that fails has changed nothing. */
function changeOf(random: Random): string {
  const id = () => random.int(1, 7)
  const item = () => `'I${random.int(1, 9)}'`
  const orNull = (value: string | number) => (random.chance(0.3) ? 'NULL' : value)
  const code = () => (random.chance(0.2) ? 'NULL' : `'C${random.int(1, 8)}'`)
  return random.pick([
    () =>
      `INSERT INTO contacts VALUES (${id()}, 'n${random.int(0, 9)}', ${code()}, ${orNull(item())}) ON CONFLICT (id) DO UPDATE SET name = excluded.name, favourite = excluded.favourite`,
    () => `UPDATE contacts SET code = ${code()} WHERE id = ${id()}`,
    () =>
      `UPDATE contacts a SET code = (SELECT code FROM contacts b WHERE b.id = x.other) FROM (VALUES (1, 2), (2, 1)) x(id, other) WHERE a.id = x.id`,
    () => `UPDATE contacts SET favourite = ${orNull(item())}`,
    () => `DELETE FROM contacts WHERE id = ${id()}`,
    () => `INSERT INTO items VALUES (${item()}, ${orNull(item())}, ${orNull(id())}, ${random.int(1, 14)})`,
    () => `INSERT INTO items VALUES (${item()}, NULL, NULL, ${random.int(1, 14)})`,
    () => `UPDATE items SET parent = ${orNull(item())}, supplier = ${orNull(id())} WHERE item_no = ${item()}`,
    () => `UPDATE items SET plu = 15 - plu`,
    () => `UPDATE items SET plu = ${random.int(1, 14)} WHERE item_no = ${item()}`,
    () => `UPDATE items SET item_no = ${item()} WHERE item_no = ${item()}`,
    () => `UPDATE items SET item_no = 'I' || (10 - substr(item_no, 2)::int)`,
    () => `DELETE FROM items WHERE item_no = ${item()}`,
    () =>
      `INSERT INTO price_lists VALUES (${id()}, 'L${random.int(1, 8)}', '${random.pick(GROUPS)}') ON CONFLICT (id) DO UPDATE SET grp = excluded.grp`,
    () => `UPDATE price_lists SET name = 'L' || (9 - substr(name, 2)::int)`,
    () => `UPDATE price_lists SET grp = '${random.pick(GROUPS)}' WHERE id <= ${id()}`,
    () => `DELETE FROM price_lists WHERE id = ${id()}`,
    () => `INSERT INTO price_list_lines SELECT ${random.int(1, 12)}, ${id()}, ${item()}, ${random.int(0, 999)} / 100.0`,
    () => `INSERT INTO price_list_lines SELECT ${random.int(1, 12)}, ${id()}, ${item()}, ${random.int(0, 999)} / 100.0`,
    () => `UPDATE price_list_lines SET list_id = ${id()} WHERE id = ${random.int(1, 12)}`,
    () => `UPDATE price_list_lines SET list_id = 8 - list_id`,
    () => `UPDATE price_list_lines SET id = 13 - id`,
    () => `UPDATE price_list_lines SET price = ${random.int(0, 999)} / 100.0 WHERE item_no = ${item()}`,
    () => `DELETE FROM price_list_lines WHERE id = ${random.int(1, 12)}`,
  ])()
}

interface Till {
  readonly name: { readonly location: string; readonly register: string }
  readonly dialect: 'sqlite' | 'postgres'
  readonly isPulled: boolean
  group: string
  replica: Register
  readonly open: () => Register
  readonly run: (sql: string) => Promise<readonly Record<string, unknown>[]>
  readonly file: string | undefined
  isBackedUp: boolean
  /** Whether it exchanges by itself, too. */
  isStarted: boolean
}

async function play(t: Test, random: Random): Promise<void> {
  const pool = await createPool(t, server)
  await pool.query(OFFICE)
  const tills: Till[] = []
  const tokens = new Map<string, string>()
  let isCalm = false
  const byPull = async (input: unknown, init?: RequestInit): Promise<Response> => {
    const request = new Request(input as string, init)
    const till = tills.find(({ name }) => name.register.toLowerCase() === new URL(request.url).hostname) as Till
    const fate = isCalm || random.chance(0.8) ? 'whole' : random.pick(['message lost', 'answer lost'])
    const answer = fate === 'message lost' ? undefined : await till.replica.fetch(request)
    if (answer === undefined || fate === 'answer lost') throw new TypeError('fetch failed')
    return answer
  }
  const open = () => {
    const central = createCentral({
      database: postgres(pool),
      subscribe: {},
      publish: PUBLISH,
      pull: { token: ({ register }) => tokens.get(register) as string, fetch: byPull as typeof fetch, everyMs: 20 },
    })
    t.teardown(() => central.stop())
    return central
  }
  const centrals = [open(), open()] as [Central, Central]
  const rows = new Rows(pool, 'public')
  let backedUp: RowBackup | undefined
  /** Registers that were added since are added again, and all attributes are as the operator wants them. */
  const restoreOffice = async (backup: RowBackup) => {
    for (const central of centrals) await central.stop()
    await rows.restore(backup)
    for (const at of centrals.keys()) centrals[at] = open()
    const listed = await centrals[0].registers.list()
    for (const till of tills) {
      if (listed.some(({ register }) => register === till.name.register))
        await centrals[0].registers.change(till.name, { attributes: { group: till.group } })
      else await register(till)
    }
  }
  const register = (till: Till) =>
    centrals[0].registers.add({
      ...till.name,
      attributes: { group: till.group },
      ...(till.isPulled && { pull: { url: `http://${till.name.register.toLowerCase()}/sync` } }),
    })
  for (const central of centrals) await central.install()
  const fetchAny = { fetch: (...args: Parameters<Central['fetch']>) => random.pick(centrals).fetch(...args) }
  const change = async () => {
    const statements = Array.from({ length: random.int(1, 5) }, () => changeOf(random))
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      for (const sql of statements) {
        await client.query('SAVEPOINT one')
        await client.query(`${sql}; SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED`).catch(() => client.query('ROLLBACK TO one'))
      }
      await client.query(random.chance(0.1) ? 'ROLLBACK' : 'COMMIT')
    } finally {
      client.release()
    }
  }
  const add = async () => {
    const till = await addTill(t, random, tills.length, fetchAny, () => isCalm, tokens)
    tills.push(till)
    await register(till)
    await till.replica.install()
  }
  const synchronize = async (till: Till) => {
    if (till.isPulled) await random.pick(centrals).synchronize(till.name)
    else await till.replica.synchronize()
  }
  for (let n = 0; n < 30; n++) await change()
  await add()
  for (let step = 0; step < STEPS; step++) {
    const till = random.pick(tills)
    const dice = random.int(0, 99)
    if (dice < 35) await change()
    else if (dice < 60) await synchronize(till).catch(expected)
    else if (dice < 75) await Promise.all([synchronize(till).catch(expected), change().then(change).then(change)])
    else if (dice < 80 && tills.length < 3) await add()
    else if (dice < 82) {
      till.isStarted = true
      await till.replica.start()
    } else if (dice < 85) {
      till.group = random.pick(GROUPS)
      await Promise.all([centrals[1].registers.change(till.name, { attributes: { group: till.group } }), synchronize(till).catch(expected)])
    } else if (dice < 90) await restart(random, till, () => undefined)
    else if (dice < 93) await restart(random, till, () => backup(till))
    else if (dice < 96) await restart(random, till, () => restore(till))
    else if (dice < 97) await random.pick(centrals).start().then(change)
    else if (dice < 98) backedUp = await rows.backup()
    else if (dice < 99 && backedUp !== undefined) await restoreOffice(backedUp)
    else {
      const at = random.int(0, 1)
      await centrals[at]?.stop()
      centrals[at] = open()
    }
  }
  isCalm = true
  for (const till of tills) {
    for (let times = 0; times < 4; times++) await synchronize(till)
    const { unapplied, problems, subscriptions } = await till.replica.status()
    t.same([unapplied, problems], [[], []], `${till.name.register} ${till.dialect}`)
    t.ok(subscriptions.every(({ isComplete }) => isComplete))
    for (const [table, select] of Object.entries(SELECTS)) {
      const wanted = (await pool.query(select(till.group))).rows
      const held = await till.run(select(till.group))
      t.same(canonical(held), canonical(wanted), `${till.name.register} ${till.dialect} ${till.isPulled ? 'pulled' : 'pushed'}: ${table}`)
    }
    const others = await till.run(`SELECT count(*) AS n FROM price_lists WHERE grp <> '${till.group}'`)
    t.equal(Number(others[0]?.n), 0)
  }
}

function canonical(rows: readonly Record<string, unknown>[]): readonly string[] {
  return rows.map((row) => JSON.stringify(Object.values(row).map((value) => (value === null ? null : String(value))))).sort()
}

async function addTill(
  t: Test,
  random: Random,
  at: number,
  central: Pick<Central, 'fetch'>,
  isCalm: () => boolean,
  tokens: Map<string, string>,
): Promise<Till> {
  const name = { location: 'BA01', register: `POS${at}` }
  const dialect = random.chance(0.4) ? 'postgres' : 'sqlite'
  const isPulled = random.chance(0.5)
  const token = randomBytes(32).toString('base64url')
  tokens.set(name.register, token)
  const host = await hostOf(t, dialect, tillTables(random))
  const recordsPerRun = random.pick([1, 3, 500])
  const link = scripted(memoryLink(central, name), () =>
    isCalm() || random.chance(0.8) ? 'whole' : random.pick(['message lost', 'answer lost'] as const),
  )
  const opened = () => {
    const replica = createRegister<AnyTables>({
      ...name,
      database: host.database(),
      publish: {},
      subscribe: Object.fromEntries(random.shuffle(['contacts', 'items', 'price_lists', 'price_list_lines']).map((table) => [table, mirror()])),
      transfer: isPulled ? { type: 'pull', token, recordsPerRun } : { type: 'push', link, recordsPerRun },
    })
    t.teardown(() => replica.stop())
    return replica
  }
  const till: Till = {
    name,
    dialect,
    isPulled,
    group: random.pick(GROUPS),
    replica: opened(),
    open: opened,
    run: host.run,
    file: host.file,
    isBackedUp: false,
    isStarted: false,
  }
  return till
}

async function restart(random: Random, till: Till, between: () => void): Promise<void> {
  await till.replica.stop()
  await till.run('SELECT 1')
  between()
  till.replica = till.open()
  await till.replica.install()
  till.isStarted = till.isStarted && random.chance(0.7)
  if (till.isStarted) await till.replica.start()
}

function backup(till: Till): void {
  if (till.file === undefined) return
  const db = new Database(till.file)
  db.pragma('wal_checkpoint(TRUNCATE)')
  db.close()
  copyFileSync(till.file, `${till.file}.backup`)
  till.isBackedUp = true
}

function restore(till: Till): void {
  if (till.file === undefined || !till.isBackedUp) return
  for (const end of ['-wal', '-shm']) rmSync(till.file + end, { force: true })
  copyFileSync(`${till.file}.backup`, till.file)
}

async function hostOf(
  t: Test,
  dialect: Till['dialect'],
  tables: string,
): Promise<{
  readonly file: string | undefined
  readonly database: () => ReturnType<typeof sqlite> | ReturnType<typeof postgres>
  readonly run: Till['run']
}> {
  if (dialect === 'postgres') {
    const pool: Pool = await createPool(t, server)
    await pool.query(`${tables}; ALTER TABLE contacts ADD FOREIGN KEY (favourite) REFERENCES items (item_no)`)
    return { file: undefined, database: () => postgres(pool), run: async (sql) => (await pool.query(sql)).rows }
  }
  const { db, file } = openDatabase(t, tables.replace('favourite VARCHAR(50)', 'favourite VARCHAR(50) REFERENCES items (item_no)'))
  db.close()
  const run = async (sql: string) => {
    const own = new Database(file)
    try {
      return own.prepare(sql).all() as Record<string, unknown>[]
    } finally {
      own.close()
    }
  }
  return { file, database: () => sqlite(() => new Database(file)), run }
}

function expected(error: { readonly code?: string }): void {
  if (error.code !== 'ERR_LINK' && error.code !== 'ERR_BUSY' && error.code !== 'ERR_ABORTED') throw error
}

t.test('what refers to each other in circles is the same at each till in the end', async (t) => {
  for (const round of roundsOfRun(ROUNDS)) {
    t.comment(`--seed=${seed + round}`)
    await t.test(`seed ${seed + round}`, (t) => play(t, new Random(seed + round)))
    if (!t.passing()) return
  }
})
