import { setImmediate as immediately } from 'node:timers/promises'
import t from 'tap'
import { mirror, type Register } from '../../src/index.ts'
import { AudienceStream, deliver, subscriberOf } from '../support/audience-stream.ts'
import { type Host, onEachDatabase } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'
import { refused } from '../support/refused.ts'

// Of two processes of a register one at a time applies what central has sent.

const server = await startServer(t)
const TABLES = 'CREATE TABLE items (id INTEGER PRIMARY KEY, version INTEGER)'
const ITEMS = 3_000
const TURN = "key = 'subscribed.turn'"

/** Two processes of a register, with all items in version 1. */
async function open(host: Host): Promise<{ readonly one: Register; readonly other: Register; readonly stream: AudienceStream }> {
  const [one, other] = [host.create({}, { subscribe: { items: mirror() } }), host.create({}, { subscribe: { items: mirror() } })]
  await one.install()
  await other.check()
  const stream = change(new AudienceStream('items', ['id']), 1, ITEMS)
  await deliver(one, [stream])
  return { one, other, stream }
}

function change(stream: AudienceStream, version: number, upTo: number): AudienceStream {
  return stream.put(...Array.from({ length: upTo }, (_, n) => ({ id: n + 1, version })))
}

async function versions(host: Host): Promise<readonly number[]> {
  return (await host.query('SELECT DISTINCT version FROM items ORDER BY version')).map((row) => (row as { version: number }).version)
}

onEachDatabase(t, server, 'what was cut earlier is not written between what was cut later', TABLES, async (t, host) => {
  const { one, other, stream } = await open(host)
  const [standing] = await subscriberOf(one).standings()
  t.equal(standing?.entryNo, ITEMS)
  const earlier = change(stream, 2, 200).next(standing as never)
  const later = change(stream, 3, ITEMS).next(standing as never)
  const taken = subscriberOf(one).take([later])
  while (!(await versions(host)).includes(3)) await immediately()
  t.match(await subscriberOf(other).take([earlier]), { isAny: false, received: 0 })
  t.match(await taken, { isAny: true, received: ITEMS })
  t.same(await versions(host), [3])
  t.equal(await deliver(other, [stream]), 0)
})

onEachDatabase(t, server, 'who is gone with the turn loses it', TABLES, async (t, host) => {
  const { one, other, stream } = await open(host)
  await host.exec("INSERT INTO sync_state (key, value) VALUES ('subscribed.turn', 'gone 1')")
  change(stream, 2, ITEMS)
  t.equal(await deliver(one, [stream]), 1)
  t.same(await versions(host), [2])
  t.same(await host.query(`SELECT 1 FROM sync_state WHERE ${TURN}`), [], 'and whoever is done leaves it')
  change(stream, 3, ITEMS)
  t.equal(await deliver(other, [stream]), 1)
  t.same(await versions(host), [3])
})

onEachDatabase(t, server, 'who has lost the turn finds out before it writes anything more', TABLES, async (t, host) => {
  const { one, stream } = await open(host)
  change(stream, 2, ITEMS)
  let isOver = false
  const taken = refused(t, () => deliver(one, [stream]).finally(() => (isOver = true)), 'ERR_BUSY')
  while (!isOver) {
    await host.exec(`DELETE FROM sync_state WHERE ${TURN}`)
    await immediately()
  }
  await taken
  t.same(await versions(host), [1, 2])
  t.equal(await deliver(one, [stream]), 1)
  t.same(await versions(host), [2])
})
