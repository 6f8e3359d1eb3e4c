import t, { type Test } from 'tap'
import type { Sealer } from '../../src/capture/sealer.ts'
import { type Link, TillsyncError } from '../../src/index.ts'
import type { SentBack } from '../../src/model.ts'
import type { RegisterDatabase } from '../../src/ports.ts'
import { takeBack } from '../../src/register-returns.ts'
import { httpLink } from '../../src/transport/http.ts'
import { onEachDatabase, sealedBy } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'
import { refused } from '../support/refused.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { backupOf, Machine, restoreFrom } from '../support/world.ts'

const server = await startServer(t)
const line = (item: string, quantity = '1') => ({ item, quantity, amount: '1' })

interface Scene {
  readonly shop: Shop
  readonly machine: Machine
  exchange(): Promise<void>
  /** The id of the only orphan. */
  orphan(): Promise<number>
}

/** A till that sells R-lost with these lines, is restored to before, and does `then`. */
async function lose(t: Test, pull: boolean, then: (machine: Machine) => void): Promise<Scene> {
  const shop = await openShop(t, server)
  const machine = new Machine(t, await shop.addTill('POS1', { pull }))
  const exchange = async () => void (pull ? await shop.central.synchronize(machine.till) : await machine.replica.synchronize())
  machine.cashier.sell('R-1', [line('OLD')])
  await exchange()
  const backup = machine.backup()
  machine.cashier.sell('R-lost', [line('LOST', '3'), line('LOST', '2')])
  await exchange()
  await machine.restore(backup)
  then(machine)
  for (let times = 0; times < 3; times++) await exchange()
  const orphan = async () => (await shop.central.orphans.list())[0]?.id as number
  return { shop, machine, exchange, orphan }
}

const receipts = ({ db }: Machine) => db.prepare('SELECT receipt_no FROM receipts ORDER BY 1').pluck().all()

for (const pull of [false, true]) {
  t.test(`a document that a till has lost is sent back, and known again, ${pull ? 'pulled' : 'pushed'}`, async (t) => {
    const { shop, machine, exchange, orphan } = await lose(t, pull, () => undefined)
    const id = await orphan()
    await shop.central.orphans.sendBack(id)
    t.match(await shop.central.orphans.list(), [{ back: 'offered', refusal: undefined }])
    await refused(t, () => shop.central.orphans.withdraw(id, { reason: 'entered again' }), 'ERR_ORPHAN')
    for (let times = 0; times < 3; times++) await exchange()
    t.same(receipts(machine), ['R-1', 'R-lost'])
    t.match(await shop.central.orphans.list({ state: 'returned' }), [{ id, document: { receipt_no: 'R-lost' } }])
    t.equal(await shop.stock('LOST'), -5, 'posted once')
    await shop.balances(t, { ...machine.till, db: machine.db })
    machine.db.exec("UPDATE receipts SET status = 'voided' WHERE receipt_no = 'R-lost'")
    for (let times = 0; times < 2; times++) await exchange()
    t.equal(await shop.stock('LOST'), 0, 'it is the same document')
    await refused(t, () => shop.central.orphans.sendBack(id), 'ERR_ORPHAN')
    await refused(t, () => shop.central.orphans.sendBack(4_711), 'ERR_ORPHAN')
  })
}

t.test('a document that was sent back, and is lost once more, may be withdrawn', async (t) => {
  const { shop, machine, exchange, orphan } = await lose(t, false, () => undefined)
  const backup = machine.backup()
  const id = await orphan()
  await shop.central.orphans.sendBack(id)
  for (let times = 0; times < 2; times++) await exchange()
  t.match(await shop.central.orphans.list({ state: 'returned' }), [{ id, back: 'taken' }])
  await machine.restore(backup)
  for (let times = 0; times < 2; times++) await exchange()
  t.match(await shop.central.orphans.list(), [{ id, back: undefined }], 'what became of sending it back was of the time before')
  await shop.central.orphans.withdraw(id, { reason: 'entered again as R-2' })
  t.equal(await shop.stock('LOST'), 0)
  await shop.balances(t, { ...machine.till, db: machine.db })
})

for (const taken of [false, true]) {
  t.test(
    `a document that is offered to a till which never answers is withdrawn once that is revoked, ${taken ? 'entered' : 'not entered'} there`,
    async (t) => {
      const { shop, machine, orphan } = await lose(t, false, () => undefined)
      const { central } = shop
      const id = await orphan()
      await central.orphans.sendBack(id)
      let left = taken ? 1 : 0
      const cut = (inner: Link): Link => ({
        exchange: (bytes, options) =>
          left-- > 0 ? inner.exchange(bytes, options) : Promise.reject(new TillsyncError('ERR_LINK', 'cut', { retryable: true })),
      })
      await t.rejects(machine.till.again({ link: cut }).synchronize(), { code: 'ERR_LINK' })
      t.equal(receipts(machine).includes('R-lost'), taken)
      await refused(t, () => central.orphans.withdraw(id, { reason: 'never again' }), 'ERR_ORPHAN')
      await central.registers.revoke(machine.till)
      await central.orphans.withdraw(id, { reason: 'never again' })
      t.equal(await shop.stock('LOST'), 0)
      const { token } = await central.registers.rotate(machine.till)
      const replica = machine.till.again({ link: () => httpLink({ url: shop.url, token }) })
      for (let times = 0; times < 2; times++) await replica.synchronize()
      t.equal(await shop.stock('LOST'), taken ? -5 : 0, 'let in again, it has what it has, once')
      t.same(receipts(machine), taken ? ['R-1', 'R-lost'] : ['R-1'])
      await shop.balances(t, { ...machine.till, db: machine.db })
      await replica.stop()
    },
  )
}

t.test('where its key, or that of a part, is used by now, nothing of it is entered', async (t) => {
  for (const [what, sql] of [
    [
      'its key',
      "INSERT INTO receipts (id, receipt_no, location, business_date, posted_at, status, net_amount) VALUES (2, 'R-2', 'BA01', '2026-11-21', '2026-11-21T10:00:00Z', 'posted', '0')",
    ],
    ['the key of a part', 'INSERT INTO receipt_lines (id, receipt_id, item_no, quantity, net_amount) VALUES (3, 1, 1, 1, 1)'],
  ] as const) {
    const { shop, machine, exchange, orphan } = await lose(t, false, ({ db }) => db.exec(sql))
    const before = receipts(machine)
    await shop.central.orphans.sendBack(await orphan())
    for (let times = 0; times < 2; times++) await exchange()
    t.match(await shop.central.orphans.list(), [{ back: 'refused', refusal: { code: 'ERR_KEY_TAKEN' } }], what)
    t.same(receipts(machine), before)
    t.equal((machine.db.prepare('SELECT count(*) FROM receipt_lines').pluck().get() as number) <= 2, true)
    await shop.central.orphans.withdraw(await orphan(), { reason: 'entered again' })
    await shop.balances(t, { ...machine.till, db: machine.db })
  }
})

t.test("what the till's schema does not take is said, and may be offered again", async (t) => {
  const { shop, machine, exchange, orphan } = await lose(t, false, ({ db }) =>
    db.exec("CREATE TRIGGER closed BEFORE INSERT ON receipts WHEN NEW.receipt_no = 'R-lost' BEGIN SELECT raise(ABORT, 'the day is closed'); END"),
  )
  await shop.central.orphans.sendBack(await orphan())
  for (let times = 0; times < 2; times++) await exchange()
  const [one] = await shop.central.orphans.list()
  t.match(one, { back: 'refused', refusal: { message: /the day is closed/ } })
  machine.db.exec('DROP TRIGGER closed')
  await shop.central.orphans.sendBack(await orphan())
  for (let times = 0; times < 3; times++) await exchange()
  t.same(receipts(machine), ['R-1', 'R-lost'])
  t.same(await shop.central.orphans.list(), [])
})

onEachDatabase(
  t,
  server,
  'it is entered whole, once, and sealed',
  'CREATE TABLE sales (id INTEGER PRIMARY KEY, note VARCHAR(20), pin VARCHAR(4)); CREATE TABLE sale_lines (id INTEGER PRIMARY KEY, sale_id INTEGER NOT NULL, price NUMERIC(10, 2))',
  async (t, host) => {
    const till = host.create({ sales: { except: ['pin'] }, sale_lines: { partOf: { sales: { sale_id: 'id' } } } })
    await till.install()
    const sealed = sealedBy(till)
    const { database, sealer } = till as unknown as { readonly database: RegisterDatabase; readonly sealer: Sealer }
    const sent: SentBack = {
      id: 7,
      table: 'sales',
      recordId: '[1]',
      keyColumns: ['id'],
      shape: [{ table: 'sale_lines', columns: { sale_id: 'id' }, parts: [] }],
      records: [
        { table: 'sales', recordId: '[1]', record: '{"id":1,"note":"a"}' },
        { table: 'sale_lines', recordId: '[5]', record: '{"id":5,"sale_id":1,"price":"1.50"}' },
        { table: 'sale_lines', recordId: '[6]', record: '{"id":6,"sale_id":1,"price":"2.50"}' },
      ],
    }
    const take = (document = sent) => takeBack(database, sealer, { location: 'BA01', register: 'POS1' }, document)
    t.same(await take(), { id: 7 })
    t.same(await sealed(), ['upsert sales[1]', 'upsert sale_lines[5]', 'upsert sale_lines[6]'])
    t.same(await take(), { id: 7 }, 'what is there already is sealed once more')
    t.equal((await sealed()).length, 3)
    await host.exec("UPDATE sales SET note = 'b' WHERE id = 1")
    t.match(await take(), { id: 7, refused: { code: 'ERR_KEY_TAKEN' } })
    t.match(await take({ ...sent, table: 'others' }), { refused: { code: 'ERR_UNKNOWN_TABLE' } })
    const another = {
      ...sent,
      recordId: '[2]',
      records: [
        { table: 'sales', recordId: '[2]', record: '{"id":2,"note":"c"}' },
        { table: 'sale_lines', recordId: '[6]', record: '{"id":6,"sale_id":2,"price":"2.50"}' },
      ],
    }
    t.match(await take(another), { refused: { code: 'ERR_KEY_TAKEN' } })
    t.equal((await host.query('SELECT * FROM sales')).length, 1)
    await till.stop()
  },
)

t.test('an orphan that somebody has changed in the archive is not settled by halves, and holds up nobody', async (t) => {
  const { shop, machine, exchange, orphan } = await lose(t, false, () => undefined)
  const { central, pool } = shop
  const id = await orphan()
  await backupOf(pool, 'whole')
  const where = `document_no = (SELECT entry_no FROM sync_orphans)`
  for (const sql of [
    `DELETE FROM sync_archive WHERE ${where}`,
    `DELETE FROM sync_archive WHERE ${where} AND table_name = 'tender_lines'`,
    `UPDATE sync_archive SET record = 'nonsense' WHERE ${where} AND table_name = 'receipts'`,
    `UPDATE sync_archive SET operation = 'remove' WHERE ${where} AND table_name = 'tender_lines'`,
  ]) {
    await pool.query(sql)
    t.match(await central.orphans.list(), [{ id, document: { receipt_no: undefined, parts: {} } }], sql)
    await refused(t, () => central.orphans.withdraw(id, { reason: 'entered again' }), 'ERR_ORPHAN')
    await refused(t, () => central.orphans.sendBack(id), 'ERR_ORPHAN')
    t.equal(await shop.stock('LOST'), -5, 'what it has posted stands')
    await restoreFrom(pool, 'whole')
  }
  await central.orphans.sendBack(id)
  await pool.query(`DELETE FROM sync_archive WHERE ${where}`)
  machine.cashier.sell('R-2', [line('NEW')])
  await exchange()
  t.equal(await shop.stock('NEW'), -1, 'offered already, it keeps no sale away')
})
