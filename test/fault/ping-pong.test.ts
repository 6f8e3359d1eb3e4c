import t from 'tap'
import { mirror } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { openShop, type Till } from '../support/shop.ts'

// Triggers at two ends that each write anew what the other has written.

const server = await startServer(t)

for (const triggers of ['of both sides', 'of two tills']) {
  t.test(`what triggers ${triggers} write anew again and again ends, and nothing else is kept back by it`, async (t) => {
    const contacts = 'CREATE TABLE contacts (id integer PRIMARY KEY, name text, phone text, updated_at text)'
    const office = `${contacts}; CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.updated_at := clock_timestamp()::text; RETURN NEW; END $$;
    CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON contacts FOR EACH ROW EXECUTE FUNCTION stamp()`
    const schema = `${contacts}; CREATE TRIGGER stamp AFTER UPDATE ON contacts BEGIN UPDATE contacts SET updated_at = hex(randomblob(8)) WHERE id = NEW.id; END;
    CREATE TRIGGER stamp_new AFTER INSERT ON contacts BEGIN UPDATE contacts SET updated_at = hex(randomblob(8)) WHERE id = NEW.id; END`
    const both = { publish: { contacts: {} }, subscribe: { contacts: mirror() } }
    const shop = await openShop(t, server, { schema: triggers === 'of both sides' ? office : contacts, ...both })
    const tills = [await shop.addTill('POS1', { schema, ...both }), await shop.addTill('POS2', { schema, ...both })]
    const exchangesOf = async (each: Till) => {
      let exchanges = 0
      const stop = each.replica.on('exchanged', () => exchanges++)
      await each.replica.synchronize()
      stop()
      return exchanges
    }
    /** Until a synchronisation of each has nothing but an idle exchange. */
    const quiet = async () => {
      for (let round = 0; round < 40; round++) {
        const exchanges = await Promise.all(tills.map(exchangesOf))
        if (exchanges.every((count) => count === 1)) return t.pass('nothing goes to and fro any more')
      }
      return t.fail('something goes to and fro for ever')
    }
    await shop.pool.query(`INSERT INTO contacts (id, name) VALUES (1, 'Ann'), (2, 'Bob')`)
    await quiet()
    const parked = async (each: Till) => (await each.replica.status()).parked.map(({ code, recordId }) => `${code} ${recordId}`).toSorted()
    t.ok((await Promise.all(tills.map(parked))).flat().includes('ERR_PING_PONG 1'))
    for (let times = 0; times < 2; times++) {
      await shop.pool.query(`UPDATE contacts SET name = 'Ann ${times}' WHERE id = 1`)
      await quiet()
    }
    const [one, other] = tills as [Till, Till]
    one.db.exec(`UPDATE contacts SET phone = '1' WHERE id = 1`)
    other.db.exec(`UPDATE contacts SET phone = '2' WHERE id = 2`)
    await quiet()
    const ends = [
      { id: 1, name: 'Ann 1', phone: '1' },
      { id: 2, name: 'Bob', phone: '2' },
    ]
    t.same((await shop.pool.query('SELECT id, name, phone FROM contacts ORDER BY id')).rows, ends)
    for (const each of tills) t.same(each.db.prepare('SELECT id, name, phone FROM contacts ORDER BY id').all(), ends)
  })
}
