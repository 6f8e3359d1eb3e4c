import t from 'tap'
import { type AnyTables, type MirrorRules, mirror, type PublishRules, type Register } from '../../src/index.ts'
import type { RegisterReplica } from '../../src/register.ts'
import { CENTRAL, writePeer } from '../../src/transport/peers.ts'
import { AudienceStream, deliver, subscriberOf } from '../support/audience-stream.ts'
import { type Host, onEachDatabase, sealedBy } from '../support/each-database.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'

const server = await startServer(t)

const CONTACTS = 'CREATE TABLE contacts (id INTEGER PRIMARY KEY, name VARCHAR(40), phone VARCHAR(20), credit NUMERIC(10, 2))'
const ORDERS = `
  CREATE TABLE internal_orders (id INTEGER PRIMARY KEY, note VARCHAR(40), status VARCHAR(10) DEFAULT 'open');
  CREATE TABLE internal_order_lines (id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL REFERENCES internal_orders (id), quantity INTEGER, confirmed INTEGER);
  CREATE INDEX internal_order_lines_order ON internal_order_lines (order_id)`

interface Sides {
  readonly till: Register
  /** What was sealed since it was last asked. */
  readonly sealed: () => Promise<string[]>
  /** Central has taken all that is sealed. */
  acknowledge(): Promise<void>
}

async function open(host: Host, publish: PublishRules<AnyTables>, subscribe: MirrorRules<AnyTables>): Promise<Sides> {
  const till = host.create(publish, { subscribe })
  await till.install()
  return {
    till,
    sealed: sealedBy(till),
    async acknowledge() {
      const { head } = await till.status()
      const { database } = till as unknown as { readonly database: RegisterReplica['subscription'] & { write(work: () => unknown): Promise<void> } }
      await database.write(() => writePeer(CENTRAL, { standing: head, contactAt: new Date().toISOString() }))
    },
  }
}

const contacts = () => new AudienceStream('contacts', ['id'])
const all = async (host: Host, table: string) =>
  (await host.query(`SELECT * FROM ${table} ORDER BY 1`)).map((row) =>
    Object.values(row as object)
      .map((value) => String(value).replace(/\.00$/, ''))
      .join('|'),
  )

onEachDatabase(t, server, 'what came from central is not sent back, and what is changed here then is', CONTACTS, async (t, host) => {
  const { till, sealed } = await open(host, { contacts: {} }, { contacts: mirror() })
  const stream = contacts().put({ id: 1, name: 'Ann', phone: '1' }, { id: 2, name: 'Bob', phone: '2' }, { id: 3, name: 'Cy', phone: '3' })
  await deliver(till, [stream])
  t.same(await all(host, 'contacts'), ['1|Ann|1|null', '2|Bob|2|null', '3|Cy|3|null'])
  t.same(await sealed(), [])
  await host.exec(`UPDATE contacts SET phone = '11' WHERE id = 1; INSERT INTO contacts (id, name) VALUES (9, 'Own')`)
  t.same(await sealed(), ['upsert contacts[1]', 'upsert contacts[9]'])
  await deliver(till, [stream.put({ id: 2, name: 'Bobby', phone: '2' }).remove([3])])
  t.same(await sealed(), [])
  t.same(await all(host, 'contacts'), ['1|Ann|11|null', '2|Bobby|2|null', '9|Own|null|null'])
  t.same((await till.reseal('contacts')).entries, 0, 'nothing is found by a comparison either')
  await host.exec(
    `UPDATE contacts SET name = 'Bob' WHERE id = 2; DELETE FROM contacts WHERE id = 9; INSERT INTO contacts (id, name) VALUES (3, 'New')`,
  )
  t.same((await sealed()).toSorted(), ['remove contacts[9]', 'upsert contacts[2]', 'upsert contacts[3]'])
})

onEachDatabase(t, server, 'a document that can not be read here waits alone when central changes it', CONTACTS, async (t, host) => {
  const readable: PublishRules<AnyTables> = {
    contacts: { where: (eb) => eb(eb.fn('abs', [eb.cast('phone', 'bigint')]), '>=', 0) },
  }
  const { till, sealed, acknowledge } = await open(host, readable, { contacts: mirror() })
  const stream = contacts().put({ id: 1, name: 'Ann', phone: '1' }, { id: 2, name: 'Bob', phone: '2' }, { id: 3, name: 'Cy', phone: '3' })
  await deliver(till, [stream])
  await host.exec("UPDATE contacts SET phone = '-9223372036854775808' WHERE id = 2")
  t.same(await sealed(), [])
  t.match((await till.status()).parked, [{ recordId: [2], code: 'ERR_FILTER' }])
  await deliver(till, [stream.put({ id: 1, name: 'Anna', phone: '1' }, { id: 2, name: 'Bobby', phone: '2' }).remove([3])])
  t.same(await all(host, 'contacts'), ['1|Anna|1|null', '2|Bob|-9223372036854775808|null'], 'the others are written')
  await deliver(till, [stream.remove([2])])
  t.same(await all(host, 'contacts'), ['1|Anna|1|null', '2|Bob|-9223372036854775808|null'])
  t.match((await till.status()).subscriptions, [{ table: 'contacts', waiting: 1, isComplete: true }])
  await host.exec("UPDATE contacts SET phone = '22' WHERE id = 2")
  t.same(await sealed(), ['upsert contacts[2]'])
  t.same((await till.status()).parked, [])
  await acknowledge()
  await subscriberOf(till).take([])
  t.same(await all(host, 'contacts'), ['1|Anna|1|null', '2|Bob|22|null'], 'what was changed here stands: central has it, and says what becomes of it')
})

onEachDatabase(t, server, 'a table that is made anew empty is filled again, and nobody hears of removals', CONTACTS, async (t, host) => {
  const { till, sealed, acknowledge } = await open(host, { contacts: {} }, { contacts: mirror() })
  const stream = contacts().put({ id: 1, name: 'Ann' }, { id: 2, name: 'Bob' })
  await deliver(till, [stream])
  await host.exec("INSERT INTO contacts (id, name) VALUES (9, 'Own')")
  t.same(await sealed(), ['upsert contacts[9]'])
  await acknowledge()
  stream.put({ id: 9, name: 'Own' })
  const before = await all(host, 'contacts')
  for (const emptied of ['', 'DELETE FROM contacts WHERE id < 9;', "UPDATE contacts SET phone = '1';"]) {
    await host.exec(`${emptied} DROP TABLE contacts; ${CONTACTS}`)
    await deliver(till, [stream])
    t.same(await all(host, 'contacts'), before)
    t.same(await sealed(), [])
  }
  await host.exec(`DROP TABLE contacts; ${CONTACTS}`)
  await till.seal()
  await host.exec("INSERT INTO contacts (id, name) VALUES (7, 'Newer')")
  await deliver(till, [stream])
  t.same(await sealed(), ['upsert contacts[7]'], 'also where somebody enters something before it comes')
  t.same(await all(host, 'contacts'), [...before.slice(0, 2), '7|Newer|null|null', ...before.slice(2)])
  await host.exec(
    `DELETE FROM contacts WHERE id = 7; ALTER TABLE contacts RENAME TO former; ${CONTACTS}; INSERT INTO contacts SELECT * FROM former WHERE id <> 2; DROP TABLE former`,
  )
  t.same((await sealed()).toSorted(), ['remove contacts[2]', 'remove contacts[7]'], 'what was not copied over is deleted')
  await host.exec('DELETE FROM contacts')
  t.same((await sealed()).toSorted(), ['remove contacts[1]', 'remove contacts[9]'], 'and what is deleted is')
})

const ADDRESSES =
  'CREATE TABLE addresses (id INTEGER PRIMARY KEY, contact_id INTEGER NOT NULL, city VARCHAR(20)); CREATE INDEX addresses_contact ON addresses (contact_id)'

onEachDatabase(t, server, 'so is one of parts: no document has lost them', `${CONTACTS}; ${ADDRESSES}`, async (t, host) => {
  const { till, sealed, acknowledge } = await open(
    host,
    { contacts: {}, addresses: { partOf: { contacts: { contact_id: 'id' } } } },
    { contacts: mirror(), addresses: mirror() },
  )
  const stream = new AudienceStream('contacts', ['id'], [{ table: 'addresses', columns: { contact_id: 'id' }, parts: [] }])
  const contact = (id: number, name: string, city: string) => ({ row: { id, name }, parts: { addresses: [{ id: id * 10, contact_id: id, city }] } })
  stream.put(contact(1, 'Ann', 'Graz'), contact(2, 'Bob', 'Linz'), { row: { id: 3, name: 'Cy' }, parts: { addresses: [] } })
  await deliver(till, [stream])
  await host.exec("INSERT INTO contacts (id, name) VALUES (9, 'Own'); INSERT INTO addresses VALUES (90, 9, 'Wels')")
  t.same(await sealed(), ['upsert contacts[9]', 'upsert addresses[90]'])
  await acknowledge()
  stream.put(contact(9, 'Own', 'Wels'))
  const before = await all(host, 'addresses')
  for (const sealing of [false, true]) {
    await host.exec(`DROP TABLE addresses; ${ADDRESSES}`)
    if (sealing) t.same(await sealed(), [])
    await deliver(till, [stream])
    t.same(await all(host, 'addresses'), before)
    t.same(await sealed(), [])
    t.same((await till.reseal('contacts')).entries, 0)
  }
  await host.exec(`DROP TABLE addresses; ${ADDRESSES}`)
  await host.exec("UPDATE contacts SET name = 'Bobby' WHERE id = 2")
  t.same(await sealed(), ['upsert contacts[2]'], 'one that somebody changes before they are here is sent as it stands')
  await acknowledge()
  stream.put({ row: { id: 2, name: 'Bobby' }, parts: { addresses: [] } })
  await deliver(till, [stream])
  t.same(await all(host, 'addresses'), [before[0], before[2]])
  await host.exec('DELETE FROM addresses WHERE id = 10')
  t.same(await sealed(), ['upsert contacts[1]'], 'what is deleted is')
})

onEachDatabase(t, server, "what the host's triggers make of it is sent", CONTACTS, async (t, host) => {
  await host.exec(
    host.dialect === 'sqlite'
      ? `CREATE TRIGGER tidy AFTER UPDATE ON contacts WHEN NEW.name LIKE ' %' BEGIN UPDATE contacts SET name = trim(NEW.name) WHERE id = NEW.id; END;
         CREATE TRIGGER tidy_new AFTER INSERT ON contacts WHEN NEW.name LIKE ' %' BEGIN UPDATE contacts SET name = trim(NEW.name) WHERE id = NEW.id; END;
         CREATE TRIGGER credit AFTER INSERT ON contacts WHEN NEW.id = 4 BEGIN UPDATE contacts SET credit = 5 WHERE id = 4; END;
         CREATE TRIGGER keep BEFORE UPDATE OF phone ON contacts WHEN OLD.id = 5 BEGIN SELECT raise(IGNORE); END`
      : `CREATE FUNCTION tidy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           NEW.name := ltrim(NEW.name);
           IF TG_OP = 'INSERT' AND NEW.id = 4 THEN NEW.credit := 5; END IF;
           IF TG_OP = 'UPDATE' AND NEW.id = 5 THEN RETURN OLD; END IF;
           RETURN NEW; END $$; CREATE TRIGGER tidy BEFORE INSERT OR UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION tidy()`,
  )
  const { till, sealed, acknowledge } = await open(host, { contacts: {} }, { contacts: mirror() })
  const stream = contacts().put(
    { id: 1, name: ' Ann', phone: '1' },
    { id: 2, name: 'Bob', phone: '2' },
    { id: 4, name: 'Di', phone: '4' },
    { id: 5, name: 'Ed', phone: '5' },
  )
  await deliver(till, [stream])
  t.same(await all(host, 'contacts'), ['1|Ann|1|null', '2|Bob|2|null', '4|Di|4|5', '5|Ed|5|null'])
  t.same((await sealed()).toSorted(), ['upsert contacts[1]', 'upsert contacts[4]'])
  await acknowledge()
  await deliver(till, [stream.put({ id: 2, name: '  Bobby', phone: '2' }, { id: 5, name: 'Ed', phone: '55' })])
  t.same((await all(host, 'contacts'))[3], '5|Ed|5|null', 'the host would not have it')
  t.same((await sealed()).toSorted(), ['upsert contacts[2]', 'upsert contacts[5]'], 'and central hears of it')
  await acknowledge()
  await till.start()
  const { head } = await till.status()
  await deliver(till, [stream.put({ id: 2, name: ' Cyd', phone: '2' })])
  await eventually('it is sealed in the background, though nobody sells', async () => {
    const now = await till.status()
    return now.head.entryNo > head.entryNo && now.unsealed === 0
  })
  await deliver(till, [stream.put({ id: 2, name: 'Dee', phone: '2' })])
  await eventually('nothing counts as unsealed for what came alone', async () => (await till.status()).unsealed === 0)
})

onEachDatabase(
  t,
  server,
  'what was entered here goes where another till removed it, be it that it never came back from central',
  CONTACTS,
  async (t, host) => {
    await host.exec(`INSERT INTO contacts (id, name) VALUES (5, 'Withheld')`)
    const { till, sealed, acknowledge } = await open(host, { contacts: {} }, { contacts: mirror() })
    const stream = contacts().put({ id: 1, name: 'Ann' })
    await deliver(till, [stream])
    await host.exec(`INSERT INTO contacts (id, name) VALUES (2, 'Bob'), (3, 'Cy'), (4, 'Di')`)
    await sealed()
    await acknowledge()
    await host.exec(`UPDATE contacts SET phone = '3' WHERE id = 3`)
    await host.exec(`INSERT INTO contacts (id, name) VALUES (6, 'New')`)
    stream.put({ id: 2, name: 'Bob' }, { id: 3, name: 'Cy' }, { id: 5, name: 'Other' }, { id: 6, name: 'Other' })
    await deliver(till, [stream.remove([2]).remove([3]).remove([5]).remove([6])])
    t.same(
      (await all(host, 'contacts')).map((row) => row.split('|')[0]),
      ['1', '3', '4', '5', '6'],
      'but for what was changed since, was never sent, or not yet',
    )
    t.same((await sealed()).toSorted(), ['upsert contacts[3]', 'upsert contacts[6]'], 'and the removal is not sent back')
    t.same((await till.status()).unapplied, [])
  },
)

onEachDatabase(t, server, 'of what the cashier changes himself the notices that wait say what is', CONTACTS, async (t, host) => {
  const { till, sealed, acknowledge } = await open(host, { contacts: {} }, { contacts: mirror({ notify: ['name', 'phone'] }) })
  const listed = async () =>
    (await till.notices.list()).map((one) => `${one.recordId} ${one.kind} ${one.column ?? ''} ${JSON.stringify([one.old, one.new])}`)
  const told = async () => till.notices.acknowledge((await till.notices.list()).map(({ id }) => id))
  const stream = contacts()
  for (const id of [1, 2, 3, 4, 5, 6]) stream.put({ id, name: 'Ann', phone: '1' })
  await deliver(till, [stream])
  await host.exec('DELETE FROM contacts WHERE id = 2')
  await host.exec("UPDATE contacts SET phone = '2' WHERE id = 3")
  const ann = '{"name":"Ann","phone":"1"}'
  t.same(
    await listed(),
    [1, 4, 5, 6, 3].map((id) => `${id} new  [null,${id === 3 ? ann.replace('1', '2') : ann}]`),
    'one that is gone by his doing leaves none',
  )
  await told()
  await sealed()
  await acknowledge()
  for (const id of [1, 3, 4, 5]) stream.put({ id, name: 'Bob', phone: '1' })
  await deliver(till, [stream.remove([6])])
  await told()
  await host.exec("UPDATE contacts SET name = 'Own' WHERE id = 1")
  t.same(await listed(), [], 'what he does where nothing is to be told leaves none')
  await sealed()
  await acknowledge()
  for (const id of [1, 3, 4]) stream.put({ id, name: 'Cy', phone: '1' })
  await deliver(till, [stream.remove([5])])
  const [first] = await till.notices.list()
  await host.exec("UPDATE contacts SET name = 'Bob' WHERE id = 3")
  await host.exec("UPDATE contacts SET name = 'Di', phone = '9' WHERE id = 4")
  await host.exec("INSERT INTO contacts (id, name, phone) VALUES (5, 'Bob', '7')")
  t.same(await listed(), ['1 changed name ["Own","Cy"]', '4 changed name ["Bob","Di"]', '5 changed phone ["1","7"]'])
  t.same((await till.notices.list())[0]?.id, first?.id, 'one that says the same is the same')
  t.same(await told(), { acknowledged: 3 })
  t.same(await listed(), [])
})

onEachDatabase(t, server, 'what was changed here wins until central has it, and nothing is lost on the way', CONTACTS, async (t, host) => {
  const { till, sealed, acknowledge } = await open(host, { contacts: {} }, { contacts: mirror() })
  const stream = contacts()
  for (let id = 1; id <= 8; id++) stream.put({ id, name: `N${id}`, phone: String(id) })
  await deliver(till, [stream])
  await host.exec(
    `UPDATE contacts SET phone = 'mine' WHERE id IN (1, 2, 3); DELETE FROM contacts WHERE id = 4; UPDATE contacts SET phone = 'sealed' WHERE id = 5`,
  )
  await till.seal()
  await host.exec(
    `UPDATE contacts SET phone = 'again' WHERE id = 1; UPDATE contacts SET phone = 'x' WHERE id = 6; UPDATE contacts SET phone = '6' WHERE id = 6`,
  )
  for (let id = 1; id <= 7; id++) stream.put({ id, name: `C${id}`, phone: `c${id}` })
  stream.remove([3]).put({ id: 7, name: 'C7', phone: 'c7' }, { id: 8, name: 'C8', phone: 'c8' })
  await deliver(till, [stream])
  t.same(await all(host, 'contacts'), [
    '1|N1|again|null',
    '2|N2|mine|null',
    '3|N3|mine|null',
    '5|N5|sealed|null',
    '6|C6|c6|null',
    '7|C7|c7|null',
    '8|C8|c8|null',
  ])
  t.same(await subscriberOf(till).unapplied(), [], 'it waits, and is not refused')
  t.match((await till.status()).subscriptions, [{ table: 'contacts', waiting: 5, isComplete: true }])
  t.same((await sealed()).toSorted(), [
    'remove contacts[4]',
    'upsert contacts[1]',
    'upsert contacts[1]',
    'upsert contacts[2]',
    'upsert contacts[3]',
    'upsert contacts[5]',
  ])
  const { take } = subscriberOf(till)
  const nothing = () => take.call(subscriberOf(till), [])
  await nothing()
  await nothing()
  t.match((await till.status()).subscriptions, [{ waiting: 5 }], 'as long as central has not acknowledged it')
  await acknowledge()
  await nothing()
  stream.put({ id: 1, name: 'C1', phone: 'again' }, { id: 5, name: 'C5', phone: 'sealed' })
  await deliver(till, [stream])
  await nothing()
  t.same(
    await all(host, 'contacts'),
    ['1|C1|again|null', '2|C2|c2|null', '4|C4|c4|null', '5|C5|sealed|null', '6|C6|c6|null', '7|C7|c7|null', '8|C8|c8|null'],
    'what central made of both; what it had sent where it made nothing of it',
  )
  t.same(await sealed(), [])
})

onEachDatabase(t, server, 'where each side has columns of its own, both changes stand', ORDERS, async (t, host) => {
  const { till, sealed, acknowledge } = await open(
    host,
    { internal_orders: { except: ['status'] }, internal_order_lines: { partOf: { internal_orders: { order_id: 'id' } }, except: ['confirmed'] } },
    { internal_orders: mirror({ only: ['status'], rows: 'update' }), internal_order_lines: mirror({ only: ['confirmed'], rows: 'update' }) },
  )
  await host.exec(
    `INSERT INTO internal_orders (id, note) VALUES (1, 'a'), (2, 'b'); INSERT INTO internal_order_lines (id, order_id, quantity) VALUES (10, 1, 5), (11, 1, 6), (20, 2, 7)`,
  )
  t.same((await sealed()).length, 5)
  const stream = new AudienceStream('internal_orders', ['id'], [{ table: 'internal_order_lines', columns: { order_id: 'id' }, parts: [] }])
  const order = (id: number, status: string, lines: readonly [number, number][]) => ({
    row: { id, status },
    parts: { internal_order_lines: lines.map(([line, confirmed]) => ({ id: line, order_id: id, confirmed })) },
  })
  await host.exec(
    `UPDATE internal_orders SET note = 'mine' WHERE id = 1; INSERT INTO internal_order_lines (id, order_id, quantity) VALUES (12, 1, 8); DELETE FROM internal_order_lines WHERE id = 11`,
  )
  await deliver(till, [
    stream.put(
      order(1, 'sent', [
        [10, 4],
        [11, 6],
      ]),
      order(2, 'sent', [[20, 7]]),
      order(3, 'lost', []),
    ),
  ])
  t.same(await all(host, 'internal_orders'), ['1|mine|sent', '2|b|sent'])
  t.same(await all(host, 'internal_order_lines'), ['10|1|5|4', '12|1|8|null', '20|2|7|7'])
  t.same(new Set(await sealed()), new Set(['upsert internal_orders[1]', 'upsert internal_order_lines[10]', 'upsert internal_order_lines[12]']))
  await acknowledge()
  await deliver(till, [stream.put(order(1, 'done', [[10, 5]])).remove([2])])
  t.same(await all(host, 'internal_orders'), ['1|mine|done', '2|b|sent'])
  t.same(await sealed(), [])
})

onEachDatabase(t, server, 'what stood here before is no change of ours', CONTACTS, async (t, host) => {
  await host.exec(`INSERT INTO contacts (id, name, phone) VALUES (1, 'Ann', '1'), (2, 'Bob', '2')`)
  const { till, sealed } = await open(host, { contacts: {} }, { contacts: mirror() })
  await deliver(till, [contacts().put({ id: 1, name: 'Anna', phone: '1' }, { id: 3, name: 'Cy', phone: '3' })])
  t.same(await all(host, 'contacts'), ['1|Anna|1|null', '2|Bob|2|null', '3|Cy|3|null'])
  t.same(await sealed(), [])
  await host.exec(`UPDATE contacts SET phone = '11'`)
  t.same((await sealed()).toSorted(), ['baseline contacts[2]', 'upsert contacts[1]', 'upsert contacts[2]', 'upsert contacts[3]'])
})

onEachDatabase(
  t,
  server,
  'columns that only the till has keep what the database gives them, and go out once it is more',
  `${CONTACTS}; ALTER TABLE contacts ADD COLUMN shelf VARCHAR(5) DEFAULT 'A'`,
  async (t, host) => {
    const { till, sealed } = await open(
      host,
      { contacts: { where: (eb) => eb('name', '<>', 'secret') } },
      { contacts: mirror({ rename: { columns: { telephone: 'phone' } } }) },
    )
    const stream = contacts().put({ id: 1, name: 'Ann', telephone: '1' }, { id: 2, name: 'secret', telephone: '2' })
    await deliver(till, [stream])
    t.same(await all(host, 'contacts'), ['1|Ann|1|null|A', '2|secret|2|null|A'])
    t.same(await sealed(), [])
    await deliver(till, [stream.put({ id: 1, name: 'secret', telephone: '1' }, { id: 2, name: 'Bob', telephone: '2' })])
    t.same(await sealed(), [], 'neither what leaves the filter by it, nor what comes in')
    await host.exec(`UPDATE contacts SET shelf = 'B'`)
    t.same(await sealed(), ['upsert contacts[2]'])
  },
)

onEachDatabase(t, server, 'a table that is published otherwise meanwhile is looked at anew', CONTACTS, async (t, host) => {
  const { till, sealed } = await open(host, { contacts: {} }, { contacts: mirror() })
  const stream = contacts().put({ id: 1, name: 'Ann' })
  await deliver(till, [stream])
  await host.exec('ALTER TABLE contacts ADD COLUMN fax VARCHAR(20)')
  await deliver(till, [stream.put({ id: 1, name: 'Ann', fax: '9' })])
  t.same(await all(host, 'contacts'), ['1|Ann|null|null|9'])
  t.same(await sealed(), [])
})

onEachDatabase(
  t,
  server,
  'columns that only central writes are put right, whatever the host does to their rows',
  `${ORDERS}; ${CONTACTS}`,
  async (t, host) => {
    const { till, sealed } = await open(
      host,
      {
        internal_orders: { except: ['status'] },
        internal_order_lines: { partOf: { internal_orders: { order_id: 'id' } }, except: ['confirmed'] },
        contacts: { except: ['credit'] },
      },
      {
        internal_orders: mirror({ only: ['status'], rows: 'update' }),
        internal_order_lines: mirror({ only: ['confirmed'], rows: 'update' }),
        people: mirror({ rename: { table: 'contacts', columns: { limit: 'credit' } } }),
      },
    )
    await host.exec(
      `INSERT INTO internal_orders (id, note) VALUES (1, 'a'), (2, 'b'); INSERT INTO internal_order_lines (id, order_id, quantity) VALUES (10, 1, 5), (20, 2, 7)`,
    )
    const orders = new AudienceStream('internal_orders', ['id'], [{ table: 'internal_order_lines', columns: { order_id: 'id' }, parts: [] }])
    const order = (id: number, status: string) => ({
      row: { id, status },
      parts: { internal_order_lines: [{ id: id * 10, order_id: id, confirmed: id }] },
    })
    const people = new AudienceStream('people', ['id']).put(
      { id: 1, name: 'Ann', phone: '1', limit: 50 },
      { id: 2, name: 'Bob', phone: '2', limit: 60 },
    )
    await deliver(till, [orders.put(order(1, 'sent'), order(2, 'sent')), people])
    await sealed()
    const exchange = async () => {
      await till.seal()
      return subscriberOf(till).take([])
    }
    const again = (id: number) =>
      `DELETE FROM internal_order_lines WHERE order_id = ${id}; DELETE FROM internal_orders WHERE id = ${id}; INSERT INTO internal_orders (id, note) VALUES (${id}, 'again');
     INSERT INTO internal_order_lines (id, order_id, quantity) VALUES (${id * 10}, ${id}, 9)`
    await host.exec(`${again(1)}; DELETE FROM contacts; INSERT INTO contacts (id, name, phone) VALUES (1, 'Ann', '1'), (2, 'Bobby', '2')`)
    await exchange()
    t.same(await all(host, 'internal_orders'), ['1|again|sent', '2|b|sent'])
    t.same(await all(host, 'internal_order_lines'), ['10|1|9|1', '20|2|7|2'])
    t.same(await all(host, 'contacts'), ['1|Ann|1|50', '2|Bobby|2|60'], "what is published of it stays the host's")
    t.same(await sealed(), ['upsert internal_orders[1]', 'upsert internal_order_lines[10]', 'upsert contacts[2]'])
    await exchange()
    t.same(await sealed(), [], 'what was put right is not sent')
    await host.exec(
      'DELETE FROM internal_order_lines WHERE order_id = 2; DELETE FROM internal_orders WHERE id = 2; DELETE FROM contacts WHERE id = 2',
    )
    await exchange()
    t.same([...(await all(host, 'internal_orders')), ...(await all(host, 'contacts'))], ['1|again|sent', '1|Ann|1|50'], 'what is deleted stays so')
    await deliver(till, [orders.remove([2]), people.remove([2])])
    await host.exec(`INSERT INTO internal_orders (id, note) VALUES (2, 'new'); INSERT INTO contacts (id, name) VALUES (2, 'New')`)
    await exchange()
    t.same((await all(host, 'internal_orders'))[1], '2|new|open', 'what central publishes no more is forgotten')
    t.same((await all(host, 'contacts'))[1], '2|New|null|null')
  },
)

onEachDatabase(
  t,
  server,
  'a column of central that the host does not let be put right is told of once, and others are',
  CONTACTS,
  async (t, host) => {
    const { till } = await open(host, { contacts: { except: ['credit'] } }, { contacts: mirror() })
    const told: unknown[] = []
    till.on('unapplied', ({ documents }) => told.push(...documents.map(({ table, recordId }) => [table, recordId])))
    const stream = contacts().put({ id: 1, name: 'Ann', credit: 10 }, { id: 2, name: 'Bob', credit: 20 }, { id: 3, name: 'Cy', credit: 30 })
    await deliver(till, [stream])
    await host.exec(
      host.dialect === 'sqlite'
        ? `CREATE TRIGGER locked BEFORE UPDATE OF credit ON contacts WHEN NEW.credit = 20 BEGIN SELECT raise(ABORT, 'locked'); END`
        : `CREATE FUNCTION locked() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.credit = 20 THEN RAISE check_violation USING MESSAGE = 'locked'; END IF; RETURN NEW; END $$; CREATE TRIGGER locked BEFORE UPDATE OF credit ON contacts FOR EACH ROW EXECUTE FUNCTION locked()`,
    )
    await host.exec('UPDATE contacts SET credit = 0')
    for (let times = 0; times < 3; times++) {
      await till.seal()
      await subscriberOf(till).take([])
    }
    t.same(await all(host, 'contacts'), ['1|Ann|null|10', '2|Bob|null|0', '3|Cy|null|30'])
    t.same(told, [['contacts', '[2]']])
    await host.exec(`DROP TRIGGER locked${host.dialect === 'sqlite' ? '' : ' ON contacts'}`)
    await host.exec(`UPDATE contacts SET phone = '2' WHERE id = 2`)
    await till.seal()
    await subscriberOf(till).take([])
    t.same((await all(host, 'contacts'))[1], '2|Bob|2|20')
  },
)

onEachDatabase(t, server, 'a host that takes a column of central back at once keeps no exchange from its end', CONTACTS, async (t, host) => {
  const { till } = await open(host, { contacts: { except: ['credit'] } }, { contacts: mirror() })
  await deliver(till, [contacts().put({ id: 1, name: 'Ann', credit: 10 }, { id: 2, name: 'Bob', credit: 20 })])
  const credits = 'UPDATE contacts SET credit = 0 WHERE id = NEW.id AND credit <> 0'
  await host.exec(
    host.dialect === 'sqlite'
      ? `CREATE TRIGGER back AFTER UPDATE OF credit ON contacts WHEN NEW.credit <> 0 BEGIN ${credits}; END`
      : `CREATE FUNCTION back() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.credit := 0; RETURN NEW; END $$; CREATE TRIGGER back BEFORE UPDATE OF credit ON contacts FOR EACH ROW EXECUTE FUNCTION back()`,
  )
  await host.exec('UPDATE contacts SET credit = 0')
  await till.seal()
  // What is written is sealed, and so found changed again, before the next look, as long as anybody waits for it.
  const { database } = till as unknown as { database: { read(...args: unknown[]): Promise<unknown> } }
  const read = database.read.bind(database)
  let [isOver, isSealing] = [false, false]
  database.read = async (...args) => {
    if (isOver || isSealing) return read(...args)
    isSealing = true
    await till.seal()
    isSealing = false
    return read(...args)
  }
  const taken = subscriberOf(till)
    .take([])
    .then(() => true)
  const ended = await Promise.race([taken, new Promise((done) => setTimeout(done, 10_000, false))])
  isOver = true
  await taken
  t.equal(ended, true)
  t.same((await till.status()).unapplied, [])
})
