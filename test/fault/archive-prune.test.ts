import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type AnyTables, createCentral, type PublishRules } from '../../src/index.ts'
import { centralBooks, isLedgerSound, tillBooks } from '../support/books.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { refused } from '../support/refused.ts'
import { openShop, PUBLISH, type Shop, type ShopOptions, SUBSCRIBE } from '../support/shop.ts'
import { Machine } from '../support/world.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const line = (item: string, quantity = '1') => ({ item, quantity, amount: '1' })
const POS1 = { location: 'BA01', register: 'POS1' }

async function scene(t: Test, options: ShopOptions = {}, recordsPerRun = 500) {
  const shop = await openShop(t, server, { retainArchiveMs: 0, ...options })
  const publish = { ...PUBLISH, receipts: { ...PUBLISH.receipts, identity: ['receipt_no'] } } as PublishRules<AnyTables>
  const machine = new Machine(t, await shop.addTill('POS1', { publish, transfer: { recordsPerRun } }))
  return { shop, machine }
}

async function archived(shop: Shop, columns = 'epoch_no, entry_no'): Promise<unknown[]> {
  return (await shop.pool.query(`SELECT ${columns} FROM sync_archive ORDER BY register_id, epoch_no, entry_no`)).rows
}

t.test('only what a later version has replaced goes', async (t) => {
  const { shop, machine } = await scene(t)
  const { central } = shop
  const { db, cashier } = machine
  for (let n = 1; n <= 6; n++) cashier.sell(`R-${n}`, [line('A')])
  await machine.replica.synchronize()
  t.same(await central.prune(), { entries: 0 }, 'each is the latest')
  db.exec("UPDATE receipts SET customer_no = 'C1' WHERE id IN (1, 2, 3)")
  await machine.replica.synchronize()
  db.exec("UPDATE receipts SET customer_no = 'C2' WHERE id IN (1, 2); DELETE FROM receipts WHERE id IN (2, 6)")
  await machine.replica.synchronize()
  cashier.sell('R-again', [line('B')])
  await machine.replica.synchronize()
  const before = await central.entries({ ...POS1, limit: 1_000 })
  // R-1 has had three versions, R-2 two before it was removed, R-3 two, R-6 was removed and its key given to R-again.
  t.same(await central.prune(), { entries: 2 * 3 + 3 })
  const after = await central.entries({ ...POS1, limit: 1_000 })
  const told = (all: typeof after) =>
    all
      .filter(({ table }) => table === 'receipts')
      .map(({ record, recordId, state }) => `${record?.receipt_no ?? `${recordId} removed`} ${record?.customer_no} ${state}`)
  t.same(told(after), [
    'R-2 null replaced',
    'R-4 null latest',
    'R-5 null latest',
    'R-6 null replaced',
    'R-2 C1 replaced',
    'R-3 C1 latest',
    'R-1 C2 latest',
    '2 removed undefined latest',
    '6 removed undefined replaced',
    'R-again null latest',
  ])
  t.same(
    after.filter(({ state }) => state === 'latest'),
    before.filter(({ state }) => state === 'latest'),
  )
  t.same(await central.prune(), { entries: 0 }, 'once')
  db.exec("UPDATE receipt_lines SET quantity = '9' WHERE receipt_id = 1")
  await machine.replica.synchronize()
  t.equal(await shop.stock('A'), -14, 'corrections go on by difference')
})

t.test('what came later than `retainArchiveMs` allows stays, and without the option all does', async (t) => {
  const { shop, machine } = await scene(t, { retainArchiveMs: 30 * 24 * 3_600_000 })
  for (const customer of ['C1', 'C2', 'C3']) {
    if (customer === 'C1') machine.cashier.sell('R-1', [line('A')])
    machine.db.exec(`UPDATE receipts SET customer_no = '${customer}'`)
    await machine.replica.synchronize()
  }
  t.same(await shop.central.prune(), { entries: 0 })
  await shop.pool.query("UPDATE sync_archive SET received_at = received_at - interval '31 days' WHERE entry_no <= 3")
  t.same(await shop.central.prune(), { entries: 3 })
  t.same(await shop.central.prune(), { entries: 0 })
  const keeping = await scene(t, {})
  const central = createCentral({ database: postgres(keeping.shop.pool), subscribe: SUBSCRIBE })
  t.teardown(() => central.stop())
  t.same(await central.prune(), { entries: 0 })
  const pool = await createPool(t, server)
  const options = (retainArchiveMs: unknown) => ({ database: postgres(pool), subscribe: {}, retainArchiveMs: retainArchiveMs as number })
  for (const wrong of [-1, 1.5, '1', null, 4e12]) await refused(t, () => createCentral(options(wrong)), 'ERR_OPTION', String(wrong))
})

t.test('a started central prunes by itself, and stops at once', async (t) => {
  const { shop, machine } = await scene(t)
  machine.cashier.sell('R-1', [line('A')])
  await machine.replica.synchronize()
  machine.db.exec("UPDATE receipts SET customer_no = 'C'")
  await machine.replica.synchronize()
  await shop.central.start()
  await eventually('the first version is gone', async () => (await archived(shop)).length === 3)
  const began = performance.now()
  await shop.central.stop()
  t.ok(performance.now() - began < 30_000)
  await t.rejects(shop.central.prune(), { code: 'ERR_STOPPED' })
})

t.test('baselines and orphans stay', async (t) => {
  const shop = await openShop(t, server, { retainArchiveMs: 0 })
  const machine = new Machine(t, await shop.addTill('POS1'))
  await machine.replica.stop()
  machine.db.exec("DELETE FROM sync_state WHERE key LIKE 'published.%'")
  machine.cashier.sell('R-old', [line('OLD', '4')])
  machine.db.exec('DELETE FROM sync_touches')
  await machine.replica.install()
  await machine.replica.synchronize()
  const backup = machine.backup()
  for (const quantity of [7, 8]) {
    machine.db.exec(`UPDATE receipt_lines SET quantity = ${quantity}`)
    await machine.replica.synchronize()
  }
  machine.cashier.sell('R-lost', [line('LOST', '3')])
  await machine.replica.synchronize()
  machine.db.exec("UPDATE receipts SET customer_no = 'C' WHERE receipt_no = 'R-lost'")
  await machine.replica.synchronize()
  t.same(await shop.central.prune(), { entries: 3 }, 'the first version of R-lost; R-old began with a baseline')
  await machine.restore(backup)
  await machine.replica.synchronize()
  await machine.replica.synchronize()
  t.equal(await shop.stock('OLD'), 0, 'the till has the former state again')
  t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-lost', customer_no: 'C' } }])
  machine.cashier.sell('R-new', [line('NEW')])
  machine.db.exec("UPDATE receipts SET customer_no = 'D' WHERE receipt_no = 'R-new'")
  await machine.replica.synchronize()
  await shop.central.prune()
  const [orphan] = await shop.central.orphans.list()
  await shop.central.orphans.withdraw(orphan?.id ?? 0, { reason: 'entered again' })
  t.equal(await shop.stock('LOST'), 0)
  await shop.central.prune()
  t.match(await shop.central.orphans.list({ state: 'withdrawn' }), [{ document: { receipt_no: 'R-lost' } }])
})

t.test('where the archive was changed by hand, nothing is deleted', async (t) => {
  const { shop, machine } = await scene(t)
  machine.cashier.sell('R-1', [line('A')])
  await machine.replica.synchronize()
  machine.db.exec("UPDATE receipts SET customer_no = 'C'")
  await machine.replica.synchronize()
  await shop.pool.query("UPDATE sync_archive SET record = replace(record, 'R-1', 'R-2') WHERE entry_no = 1")
  t.same(await shop.central.prune(), { entries: 0 })
  t.equal((await archived(shop)).length, 6)
})

/** What a shop says of itself, whatever it is called there. */
async function told({ pool, central }: Shop): Promise<unknown> {
  const rows = async (sql: string) => (await pool.query(sql)).rows
  const orphans = (state: 'orphaned' | 'returned' | 'former') => central.orphans.list({ state, limit: 1_000 })
  const shown = async (state: 'orphaned' | 'returned' | 'former') =>
    (await orphans(state)).map(({ recordId, document }) => `${state} ${recordId} ${document.receipt_no} ${document.customer_no}`).sort()
  return {
    mirror: await rows('SELECT id, receipt_no, customer_no FROM receipts ORDER BY id'),
    posted: await rows('SELECT document_no, item_no, sum(quantity) AS quantity FROM stock_movements GROUP BY 1, 2 ORDER BY 1, 2'),
    states: await rows(
      'SELECT record_id, incarnation, lives, removed, epoch_no, entry_no, born_entry_no, state FROM sync_documents ORDER BY record_id',
    ),
    orphans: [await shown('orphaned'), await shown('returned'), await shown('former')],
  }
}

t.test('where histories part is found exactly, though nothing is left there but points', async (t) => {
  for (const sealed of [1, 5, 9]) {
    const { shop, machine } = await scene(t)
    const forks: number[] = []
    shop.central.on('forked', ({ common }) => forks.push(common))
    let backup: Buffer | undefined
    for (let n = 1; n <= 10; n++) {
      machine.cashier.sell(`R-${n}`, [line('A')])
      if (n !== sealed) continue
      await machine.replica.seal()
      backup = machine.backup()
    }
    await machine.replica.synchronize()
    machine.db.exec("UPDATE receipts SET customer_no = 'C' WHERE id BETWEEN 2 AND 9")
    await machine.replica.synchronize()
    t.same(await shop.central.prune(), { entries: 24 })
    await machine.restore(backup as Buffer)
    machine.cashier.sell('R-new', [line('B')])
    for (let run = 0; run < 2; run++) await machine.replica.synchronize()
    t.same(forks, [3 * sealed], 'behind the last entry that the backup has')
    t.equal((await shop.central.orphans.list()).length, 10 - sealed)
    t.equal(await shop.stock('A'), -10)
    t.equal(await shop.stock('B'), -1)
  }
})

t.test('restores after pruning end as they do without', async (t) => {
  for (const round of roundsOfRun(1)) {
    const random = new Random(seed + round)
    const recordsPerRun = random.pick([3, 10, 40, 500])
    const pair = [await scene(t, {}, recordsPerRun), await scene(t, {}, recordsPerRun)] as const
    const forks: string[][] = [[], []]
    for (const [n, { shop }] of pair.entries())
      shop.central.on('forked', ({ common, orphaned, wanted }) => void forks[n]?.push(`behind ${common}: ${orphaned} orphaned, ${wanted} wanted`))
    const backups: [Buffer, Buffer][] = []
    let receipt = 0
    for (let step = 0; step < 14; step++) {
      const statements: string[] = []
      const some = `id IN (SELECT id FROM receipts ORDER BY id * ${random.int(1, 97)} % 101 LIMIT ${random.int(1, 4)})`
      const kind = random.int(0, 9)
      if (kind <= 3) statements.push(`UPDATE receipts SET customer_no = 'C${random.int(1, 9)}' WHERE ${some}`)
      if (kind === 4)
        statements.push(`UPDATE receipt_lines SET quantity = '${random.int(1, 9)}' WHERE receipt_id IN (SELECT id FROM receipts WHERE ${some})`)
      if (kind === 5) statements.push(`DELETE FROM receipts WHERE ${some}`)
      const sales = Array.from({ length: random.int(0, 5) }, () => [`R-${++receipt}`, `${random.int(1, 9)}`] as const)
      const keeps = random.chance(0.4)
      const middle = keeps && random.chance(0.5) && sales.length > 1 ? random.int(0, sales.length - 2) : undefined
      const restored = backups.length > 0 && random.chance(0.3) ? random.int(0, backups.length - 1) : undefined
      // A later one than the last that was restored would look like a copy of the disk.
      if (restored !== undefined) backups.length = restored + 1
      const backup: Buffer[] = []
      for (const [n, { machine }] of pair.entries()) {
        if (restored !== undefined) await machine.restore((backups[restored] as [Buffer, Buffer])[n] as Buffer)
        for (const [at, [no, quantity]] of sales.entries()) {
          machine.cashier.sell(no, [line('A', quantity), line('B')])
          if (at !== middle) continue
          // Sealed and not sent: a history that goes on from here parts inside a batch.
          await machine.replica.seal()
          backup.push(machine.backup())
        }
        for (const statement of statements) machine.db.exec(statement)
        for (let run = 0; run < 3; run++) await machine.replica.synchronize()
        if (keeps && middle === undefined) backup.push(machine.backup())
      }
      if (backup.length === 2) backups.push(backup as [Buffer, Buffer])
      await pair[0].shop.central.prune()
      t.same(forks[0], forks[1], `seed ${seed + round}: histories part at the same entries`)
      const [pruned, whole] = [await told(pair[0].shop), await told(pair[1].shop)]
      if (JSON.stringify(pruned) !== JSON.stringify(whole)) {
        t.same(pruned, whole, `--seed=${seed + round}, step ${step}`)
        return
      }
    }
    t.ok((await archived(pair[0].shop)).length <= (await archived(pair[1].shop)).length)
    t.comment(`${(await archived(pair[1].shop)).length - (await archived(pair[0].shop)).length} entries pruned, ${forks[0]?.length} restores noticed`)
  }
})

t.test('two centrals prune while registers send', async (t) => {
  const { shop } = await scene(t)
  const other = shop.again()
  const tills = [await shop.addTill('POS2'), await shop.addTill('POS3')]
  const ended = new AbortController()
  const pruning = [shop.central, other].map(async (central) => {
    let entries = 0
    while (!ended.signal.aborted) entries += (await central.prune()).entries
    return entries
  })
  const sending = tills.map(async (till) => {
    for (let n = 0; n < 40; n++) {
      till.cashier.sell(`R-${n}`, [line('A')])
      till.db.exec(`UPDATE receipts SET customer_no = 'C${n}' WHERE id % 3 = ${n % 3}`)
      await till.replica.synchronize()
    }
  })
  await Promise.all(sending)
  ended.abort()
  const pruned = (await Promise.all(pruning)).reduce((a, b) => a + b)
  t.ok(pruned > 100, `${pruned} entries`)
  await shop.central.prune()
  for (const { location, register, db } of tills) {
    t.same(await centralBooks(shop.pool, { location, register }), tillBooks(db))
    const rest = await shop.central.entries({ location, register, state: 'replaced' })
    t.same(rest, [], 'nothing that was replaced is left')
  }
  t.ok(await isLedgerSound(shop.pool))
})
