import t from 'tap'
import type { AnyTables, PublishRules, Register } from '../../src/index.ts'
import { type Host, onEachDatabase, sealedBy } from '../support/each-database.ts'
import { startServer } from '../support/postgres.ts'

const server = await startServer(t)
const TABLES = 'CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT, status TEXT); CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT)'

/** The till's process ends and another one begins, with other rules. */
async function restarted(host: Host, till: Register, publish: PublishRules<AnyTables>): Promise<Register> {
  await till.stop()
  const next = host.create(publish)
  await next.install()
  return next
}

onEachDatabase(t, server, 'rules that name an identity, another one or none any more seal nothing anew', TABLES, async (t, host) => {
  await host.exec(`INSERT INTO receipts VALUES (1, 'R-1', 'posted')`)
  let till = host.create({ receipts: {} })
  await till.install()
  await till.seal()
  await host.exec(`INSERT INTO receipts VALUES (2, 'R-2', 'posted')`)
  t.same(await sealedBy(till)(), ['upsert receipts[2]'], 'the first one is withheld')
  for (const identity of [['receipt_no'], ['receipt_no', 'status'], ['status'], [], ['receipt_no']]) {
    till = await restarted(host, till, { receipts: identity.length > 0 ? { identity } : {} })
    await till.seal()
    t.equal((await till.status()).head.entryNo, 1, `identity ${identity}`)
  }
  const sealed = sealedBy(till)
  await sealed()
  await host.exec(`UPDATE receipts SET receipt_no = 'R-3' WHERE id = 2`)
  t.same(await sealed(), ['remove receipts[2]', 'upsert receipts[2]'], 'the identity that the rules name now tells')
  await host.exec(`UPDATE receipts SET status = 'void' WHERE id = 1`)
  t.same(await sealed(), ['baseline receipts[1]', 'upsert receipts[1]'], 'what was withheld is so still')
})

onEachDatabase(
  t,
  server,
  'a table that leaves the rules and comes back: what is gone meanwhile is removed, what came is withheld',
  TABLES,
  async (t, host) => {
    let till = host.create({ receipts: {}, items: {} })
    await till.install()
    await host.exec(`INSERT INTO receipts VALUES (1, 'R-1', 'posted'), (2, 'R-2', 'posted'), (3, 'R-3', 'posted')`)
    await till.seal()
    till = await restarted(host, till, { items: {} })
    await host.exec(
      `DELETE FROM receipts WHERE id = 1; UPDATE receipts SET status = 'void' WHERE id = 2; INSERT INTO receipts VALUES (4, 'R-4', 'posted')`,
    )
    await till.seal()
    till = await restarted(host, till, { receipts: {}, items: {} })
    await till.seal()
    t.same((await sealedBy(till)()).slice(3).sort(), ['remove receipts[1]', 'upsert receipts[2]'])
  },
)

onEachDatabase(t, server, 'a reseal of a table that is in no rule any more is not waited for', TABLES, async (t, host) => {
  let till = host.create({ receipts: {}, items: {} })
  await till.install()
  till = await restarted(host, till, { receipts: { except: ['status'] }, items: {} })
  t.same((await till.status()).resealing, ['receipts'])
  till = await restarted(host, till, { items: {} })
  t.same((await till.status()).resealing, [])
})

const SWAPPED = `
  CREATE TABLE receipts (id INTEGER PRIMARY KEY, posted INTEGER, held INTEGER); INSERT INTO receipts VALUES (1, 1, 0), (2, 0, 1), (3, 1, 1);
  CREATE TABLE items (id INTEGER PRIMARY KEY, plu INTEGER, shelf INTEGER); INSERT INTO items VALUES (1, 10, 20), (2, 7, 7)`
const swap = (table: string, a: string, b: string) =>
  `ALTER TABLE ${table} RENAME COLUMN ${a} TO other; ALTER TABLE ${table} RENAME COLUMN ${b} TO ${a}; ALTER TABLE ${table} RENAME COLUMN other TO ${b}`

onEachDatabase(t, server, 'two columns that swap their names between two sealings: what they hold by now is sealed', SWAPPED, async (t, host) => {
  const till = host.create({
    receipts: { where: (eb) => eb('posted', '=', 1), except: ['posted', 'held'], existing: 'all' },
    items: { existing: 'all' },
  })
  await till.install()
  const sealed = sealedBy(till)
  t.same((await sealed()).toSorted(), ['upsert items[1]', 'upsert items[2]', 'upsert receipts[1]', 'upsert receipts[3]'])
  await host.exec(`${swap('receipts', 'posted', 'held')}; ${swap('items', 'plu', 'shelf')}`)
  await till.seal()
  t.same(
    (await sealed()).toSorted(),
    ['remove receipts[1]', 'upsert items[1]', 'upsert receipts[2]'],
    'a filter reads columns that are not published, too',
  )
  const [item] = await till.entries({ table: 'items', after: 4, limit: 1 })
  t.same(item?.record, { id: 1, plu: 20, shelf: 10 })
  t.same(await till.reseal('receipts'), { documents: 0, entries: 0 })
})
