import t from 'tap'
import { onEachDatabase, sealedBy } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'

const server = await startServer(t)
const TABLES = 'CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)'
const COLUMNS = {
  sqlite: [
    ...['INTEGER', 'REAL', 'DECIMAL(10,2)', 'TEXT', 'BLOB', ''].flatMap((type) =>
      ['1', '-1', '1.50', '0.00', '-0.0', '1e3', '0x10', '1e300', `'1.50'`, `' 2 '`, `'.5e1'`, `'a'`, `''`, `x'61'`, 'NULL', 'TRUE', '(7)'].map(
        (value) => `${type} DEFAULT ${value}`,
      ),
    ),
    'INTEGER DEFAULT 9223372036854775807',
    'INTEGER DEFAULT 9223372036854775808',
  ],
  postgres: [`numeric(10,2) DEFAULT 0.00`, `double precision DEFAULT '-0'`, `text DEFAULT 'a'`, `boolean DEFAULT true`, `bytea DEFAULT '\\x61'`],
}

/** Until what the schema asked for is done. */
onEachDatabase(t, server, 'a column that is added resends nothing, whatever its type makes of its default', TABLES, async (t, host) => {
  const till = host.create({ items: {} })
  await till.install()
  await host.exec(`INSERT INTO items VALUES (1, 'x')`)
  await till.seal()
  for (const [n, column] of COLUMNS[host.dialect].entries()) {
    await host.exec(`ALTER TABLE items ADD COLUMN c${n} ${column}`)
    await till.seal()
    const { entryNo } = (await till.status()).head
    if (!t.equal(entryNo, 1, column)) return
  }
})

const STAMPED = `CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, changed_at TEXT DEFAULT CURRENT_TIMESTAMP)`

onEachDatabase(t, server, 'a default that is another one each time seals nothing anew', STAMPED, async (t, host) => {
  if (host.dialect === 'sqlite')
    await host.exec('ALTER TABLE items RENAME TO plain; CREATE TABLE items (id INTEGER PRIMARY KEY, token TEXT DEFAULT (hex(randomblob(4))))')
  const till = host.create({ items: {} })
  await till.install()
  await host.exec('INSERT INTO items (id) VALUES (1)')
  const sealed = sealedBy(till)
  t.same(await sealed(), ['upsert items[1]'])
  for (let n = 0; n < 3; n++) {
    await till.install()
    await till.seal()
    t.same(await sealed(), [])
  }
})

onEachDatabase(t, server, 'a column that goes and comes again with another default is told from the former one', TABLES, async (t, host) => {
  await host.exec(`ALTER TABLE items ADD COLUMN unit TEXT DEFAULT 'pc'`)
  const till = host.create({ items: {} })
  await till.install()
  await host.exec(`INSERT INTO items (id) VALUES (1)`)
  await till.seal()
  await host.exec('ALTER TABLE items DROP COLUMN unit')
  await till.seal()
  await host.exec('ALTER TABLE items ADD COLUMN unit TEXT')
  await till.seal()
  t.match((await till.entries()).at(-1)?.record, { id: 1, unit: null })
})
