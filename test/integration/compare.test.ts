import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type CompareOptions, type Comparison, createCentral, mirror, type Register } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { driven } from '../support/driven.ts'
import { type Host, onEachDatabase } from '../support/each-database.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { count } from '../support/quarantine.ts'
import { listen, openShop, type Shop } from '../support/shop.ts'

const server = await startServer(t)
const POS1 = { location: 'BA01', register: 'POS1' }

const TABLES = `
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no VARCHAR(20) NOT NULL, status VARCHAR(9) NOT NULL DEFAULT 'posted', total NUMERIC(9, 2) DEFAULT 0, note TEXT, photo BYTEA);
  CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL, item_no VARCHAR(20) NOT NULL, price DOUBLE PRECISION); CREATE INDEX lines_receipt ON receipt_lines (receipt_id)`

interface Scene {
  readonly shop: Shop
  readonly till: Register
  compare(options?: CompareOptions): Promise<Comparison>
  /** The numbers of the receipts that were received since the last call. */
  received(): Promise<string[]>
}

async function open(t: Test, host: Host): Promise<Scene> {
  const shop = await openShop(t, server, { schema: 'SELECT 1', subscribe: { receipts: () => undefined } })
  const { token } = await shop.central.registers.add(POS1)
  const till = host.create(
    { receipts: { where: (eb) => eb('status', '<>', 'open') }, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
    { transfer: { type: 'push', link: httpLink({ url: shop.url, token }) } },
  )
  await till.install()
  let after = 0
  const received = async () => {
    const { rows } = await shop.pool.query(
      "SELECT entry_no::int AS no, operation, record_id FROM sync_archive WHERE table_name = 'receipts' AND entry_no > $1 ORDER BY entry_no",
      [after],
    )
    after = rows.at(-1)?.no ?? after
    return rows.map(({ operation, record_id }) => `${operation} ${record_id}`)
  }
  return { shop, till, received, compare: (options) => driven(till, shop.central.compare('receipts', POS1, options)) }
}

const each = (name: string, test: (t: Test, host: Host) => Promise<void>) => {
  onEachDatabase(t, server, name, TABLES, async (t, host) => test(t, host))
}

async function sell(host: Host, from: number, through: number): Promise<void> {
  for (let n = from; n <= through; n++) {
    const photo = host.dialect === 'sqlite' ? `x'00ff'` : `'\\x00ff'`
    await host.exec(
      `INSERT INTO receipts (id, receipt_no, note, photo) VALUES (${n}, 'R-${n}', ${n % 3 === 0 ? 'NULL' : `'ä"\\ {},${n}'`}, ${n % 2 === 0 ? photo : 'NULL'});
       INSERT INTO receipt_lines VALUES (${2 * n}, ${n}, 'A', ${n}.5), (${2 * n + 1}, ${n}, 'B', NULL)`,
    )
  }
}

each('what a register has published is what central has, whatever it is made of', async (t, host) => {
  const { till, compare, received, shop } = await open(t, host)
  await sell(host, 1, 30)
  await host.exec("INSERT INTO receipts (id, receipt_no, status) VALUES (90, 'R-open', 'open'), (91, 'R-none', 'posted')")
  await till.synchronize()
  t.match(await compare(), { ...POS1, table: 'receipts', equal: 31, differing: 0, differences: [], changed: 0, parked: 0, repaired: 0 })
  await received()
  await host.exec(
    "UPDATE receipts SET total = 5 WHERE id < 4; UPDATE receipts SET note = 'x' WHERE id = 9; DELETE FROM receipt_lines WHERE receipt_id = 5; DELETE FROM receipts WHERE id = 6",
  )
  await till.seal()
  t.match(await compare({ repair: true }), { equal: 30, differing: 0, repaired: 0 }, 'what is sealed and not sent is waited for')
  t.same((await received()).length, 6, 'nothing was sent but what has changed')
  await host.exec('ALTER TABLE receipts ADD COLUMN bonus INTEGER DEFAULT 7; UPDATE receipts SET bonus = 8 WHERE id = 1')
  await till.synchronize()
  t.match(await compare(), { equal: 30, differing: 0 }, 'a column that was added counts where it is not what it was at first')
  t.equal(await count(shop.pool, 'sync_comparisons'), 0, 'nothing is left of the questions')
  t.equal(await count(shop.pool, 'sync_comparison_answers'), 0)
})

each('damage at either side is found and repaired exactly, and nothing else is sent', async (t, host) => {
  const { till, compare, received, shop } = await open(t, host)
  await sell(host, 1, 40)
  await till.synchronize()
  const { pool } = shop
  const whose = ({ differences }: Comparison) => differences.map(({ recordId, kind }) => `${recordId} ${kind}`)
  const isRepaired = async (differences: readonly string[], sent: readonly string[]) => {
    t.same(whose(await compare()), differences, 'found')
    await received()
    const repaired = await compare({ repair: true })
    t.same(whose(repaired), differences, 'found again: to look changes nothing')
    t.match(repaired, { equal: 40 - differences.length, differing: differences.length, repaired: differences.length })
    t.same((await received()).sort(), [...sent].sort(), 'just these are sent again')
    t.match(await compare(), { differing: 0, equal: 40 }, 'mended')
    t.same((await pool.query('SELECT unsettled FROM sync_registers')).rows, [{ unsettled: false }], 'settled')
  }
  await pool.query("DELETE FROM sync_documents WHERE record_id IN ('[7]', '[40]')")
  await pool.query("UPDATE sync_archive SET record = replace(record, 'R-8', 'R-X') WHERE record_id = '[8]' AND table_name = 'receipts'")
  await pool.query("UPDATE sync_archive SET record = 'nonsense' WHERE record_id = '[18]' AND table_name = 'receipt_lines'")
  await pool.query("DELETE FROM sync_archive WHERE record_id = '[25]' AND table_name = 'receipt_lines'")
  await pool.query("UPDATE sync_documents SET removed = true WHERE record_id = '[13]'")
  const found = ['12 different', '13 missing', '40 missing', '7 missing', '8 different', '9 different']
  await isRepaired(
    found,
    [7, 8, 9, 12, 13, 40].map((id) => `upsert [${id}]`),
  )
  const zeros = host.dialect === 'sqlite' ? 'zeroblob(32)' : "decode(repeat('00', 32), 'hex')"
  await host.exec(`DELETE FROM sync_members WHERE record_id IN ('[1]', '[2]'); UPDATE sync_members SET hash = ${zeros} WHERE record_id = '[3]'`)
  await host.exec(`UPDATE sync_members SET hash = ${host.dialect === 'sqlite' ? "x'00'" : "'\\x00'"} WHERE record_id = '[4]'`)
  await isRepaired(['1 surplus', '2 surplus', '3 different', '4 different'], ['upsert [1]', 'upsert [2]', 'upsert [3]', 'upsert [4]'])
})

each('what the register has deleted unseen is removed at central by a repair', async (t, host) => {
  const { till, compare, received } = await open(t, host)
  await sell(host, 1, 5)
  await till.synchronize()
  await received()
  await host.exec("DELETE FROM sync_members WHERE record_id = '[2]'; DELETE FROM receipts WHERE id = 2")
  await till.synchronize()
  t.same(await received(), [], 'nobody knows that it was there')
  t.match(await compare({ repair: true }), { equal: 4, differences: [{ recordId: [2], kind: 'surplus' }], repaired: 1 })
  t.same(await received(), ['remove [2]'])
  t.match(await compare(), { equal: 4, differing: 0 })
})

const CONTACTS = 'CREATE TABLE contacts (id INTEGER PRIMARY KEY, name VARCHAR(40) NOT NULL)'
onEachDatabase(t, server, 'of a table that both sides publish only what the register has sealed last is compared', CONTACTS, async (t, host) => {
  const pool = await createPool(t, server)
  await pool.query(CONTACTS)
  const central = createCentral({
    database: postgres(pool),
    subscribe: { contacts: mirror({ removals: 'apply' }) },
    publish: { contacts: {} },
  })
  t.teardown(() => central.stop())
  await central.install()
  const url = await listen(t, central.fetch)
  const { token } = await central.registers.add(POS1)
  const till = host.create({ contacts: {} }, { subscribe: { contacts: mirror() }, transfer: { type: 'push', link: httpLink({ url, token }) } })
  await till.install()
  await central.start()
  const settled = async (what: string) => {
    await eventually(what, async () => {
      await till.synchronize()
      const names = (rows: readonly unknown[]) => JSON.stringify(rows.map((row) => Object.values(row as object).map(String)).sort())
      return names((await pool.query('SELECT * FROM contacts')).rows) === names(await host.query('SELECT * FROM contacts'))
    })
  }
  const compare = (options?: CompareOptions) => driven(till, central.compare('contacts', POS1, options))
  await host.exec("INSERT INTO contacts VALUES (1, 'till'), (2, 'till'), (3, 'till'), (4, 'till')")
  await settled('from the till')
  t.match(await compare(), { equal: 4, differing: 0, received: 0 })
  await pool.query(
    "INSERT INTO contacts VALUES (8, 'central'), (9, 'central'); UPDATE contacts SET name = 'changed' WHERE id = 1; DELETE FROM contacts WHERE id = 2",
  )
  await settled('from central')
  t.match(await compare({ repair: true }), { equal: 2, differing: 0, received: 4, repaired: 0 })
  await host.exec("UPDATE contacts SET name = 'again' WHERE id = 9")
  await settled('from the till once more')
  t.match(await compare(), { equal: 3, differing: 0, received: 3 })
  await pool.query("DELETE FROM sync_documents WHERE record_id IN ('[3]', '[9]')")
  t.match(await compare({ repair: true }), {
    equal: 1,
    differing: 2,
    differences: [{ recordId: [3], kind: 'missing' }, { recordId: [9] }],
    repaired: 2,
  })
  await settled('nothing has changed')
  t.match(await compare(), { equal: 3, differing: 0 })
})
