import Database from 'better-sqlite3'
import t from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createRegister } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { startServer } from '../support/postgres.ts'
import { Random } from '../support/random.ts'
import { openShop, PUBLISH } from '../support/shop.ts'

const server = await startServer(t)

t.test('what central has acknowledged is pruned when it is old, and nothing else', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const open = (retainMs: number) =>
    createRegister({
      location: till.location,
      register: till.register,
      database: sqlite(() => new Database(till.file)),
      publish: PUBLISH,
      transfer: { type: 'push', link: httpLink({ url: shop.url, token: till.token }) },
      retainMs,
    })
  const random = new Random(1)
  const [patient, eager] = [open(60_000), open(0)]
  t.teardown(() => Promise.all([patient.stop(), eager.stop()]))
  const rows = (table: string) => (till.db.prepare(`SELECT count(*) AS n FROM ${table}`).get() as { n: number }).n
  for (let n = 1; n <= 300; n++) till.cashier.sellAnything(random, `R-${n}`)
  await eager.seal()
  t.same(await eager.prune(), { entries: 0 }, 'nothing before it is acknowledged')
  await eager.synchronize()
  t.same(await patient.prune(), { entries: 0 }, 'nothing before its time')
  const sealed = rows('sync_entries')
  await new Promise((resolve) => setTimeout(resolve, 2))
  t.same(await eager.prune(), { entries: sealed - 1 }, 'all but the last one')
  t.equal(rows('sync_digests'), Math.floor((sealed - 1) / 1_000), 'of every thousand a digest is kept')
  till.cashier.sellAnything(random, 'R-301')
  await eager.synchronize()
  await shop.balances(t, till)
  t.match((await eager.entries()).at(0), { entryNo: sealed }, 'numbers go on')
})
