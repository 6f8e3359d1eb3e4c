import Database from 'better-sqlite3'
import t from 'tap'
import { systemClock } from '../../src/clock.ts'
import type { Link } from '../../src/index.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { TILL_SCHEMA } from '../support/tables.ts'
import { backupOf, Machine, restoreFrom } from '../support/world.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)

const line = (item: string, quantity = '1') => ({ item, quantity, amount: '1' })

async function scene(t: Parameters<typeof openShop>[0], recordsPerRun = 20, before = '') {
  const shop = await openShop(t, server)
  const machine = new Machine(t, await shop.addTill('POS1', { transfer: { recordsPerRun }, schema: TILL_SCHEMA + before }))
  for (let n = 1; n <= 10; n++) machine.cashier.sell(`R-${n}`, [line('OLD')])
  await machine.replica.synchronize()
  return { shop, machine }
}

/** A till that has lost a sale by a restore; central has it. */
async function lossOf(t: Parameters<typeof openShop>[0], lines: Parameters<Machine['cashier']['sell']>[1]) {
  const { shop, machine } = await scene(t)
  const backup = machine.backup()
  machine.cashier.sell('R-lost', lines)
  await machine.replica.synchronize()
  await machine.restore(backup)
  return { shop, machine }
}

/** A copy of the till's disk in another computer. */
async function twinOf(t: Parameters<typeof openShop>[0], shop: Shop, machine: Machine): Promise<Machine> {
  const { till } = new Machine(t, await shop.addTill('POS2'))
  const twin = new Machine(t, { ...till, again: (options) => till.again({ ...options, as: 'POS1', token: machine.till.token }) })
  await twin.restore(machine.backup())
  return twin
}

async function isEqual(t: Parameters<typeof openShop>[0], shop: Shop, machine: Machine, message: string): Promise<void> {
  await shop.balances(t, { ...machine.till, db: machine.db }, message)
}

t.test('a till restored from a backup: what it lost stays posted, what it sells is posted', async (t) => {
  const { shop, machine } = await scene(t)
  const backup = machine.backup()
  machine.cashier.sell('R-lost', [line('LOST', '3')])
  machine.db.exec("UPDATE receipts SET status = 'voided' WHERE receipt_no = 'R-3'; DELETE FROM receipts WHERE receipt_no = 'R-4'")
  await machine.replica.synchronize()
  t.equal(await shop.stock('OLD'), -9)
  await machine.restore(backup)
  const forked: unknown[] = []
  machine.replica.on('forked', (event) => forked.push(event))
  machine.cashier.sell('R-new', [line('NEW', '5')])
  await machine.replica.synchronize()
  t.equal(forked.length, 1)
  t.equal((await machine.replica.status()).pending, 0)
  t.equal(await shop.stock('LOST'), -3, 'lost at the till, posted at central')
  t.equal(await shop.stock('NEW'), -5, 'under the same key')
  t.equal(await shop.stock('OLD'), -10, 'a void that was lost is taken back')
  const orphans = await shop.central.orphans.list()
  t.match(orphans, [{ table: 'receipts', location: 'BA01', register: 'POS1', document: { receipt_no: 'R-lost' }, state: 'orphaned' }])
  machine.cashier.sell('R-more', [line('NEW')])
  await machine.replica.synchronize()
  t.equal(await shop.stock('NEW'), -6)
  t.equal((await shop.central.orphans.list()).length, 1)
  await shop.central.orphans.withdraw(orphans[0]?.id ?? 0, { reason: 'entered again' })
  t.equal(await shop.stock('LOST'), 0)
  await isEqual(t, shop, machine, 'after the withdrawal')
  t.match(await shop.central.orphans.list({ state: 'withdrawn' }), [{ reason: 'entered again' }])
  await t.rejects(shop.central.orphans.withdraw(orphans[0]?.id ?? 0, { reason: 'again' }), { code: 'ERR_ORPHAN' })
})

t.test('a till whose backup is put in its place while it runs, and while it hears of what that lacks, goes on', async (t) => {
  let beforeHeard = async () => undefined as unknown
  const link = (inner: Link): Link => ({
    async exchange(message, options) {
      const answer = await inner.exchange(message, options)
      await beforeHeard()
      return answer
    },
  })
  const shop = await openShop(t, server)
  const { db, file, replica, cashier, ...till } = await shop.addTill('POS1', { link })
  cashier.sell('R-1', [line('OLD')])
  await replica.synchronize()
  await db.backup(`${file}.backup`)
  cashier.sell('R-lost', [line('LOST')])
  await replica.synchronize()
  beforeHeard = async () => {
    beforeHeard = async () => undefined
    const backup = new Database(`${file}.backup`)
    await backup.backup(file)
    backup.close()
  }
  await replica.synchronize()
  // What central has ends amid what has the same numbers now.
  cashier.sell('R-new', [line('NEW'), line('NEW'), line('NEW')])
  await replica.synchronize()
  t.match(await replica.status(), { pending: 0, lastError: undefined })
  t.equal(await shop.stock('NEW'), -3)
  t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-lost' } }])
  await shop.central.orphans.withdraw((await shop.central.orphans.list())[0]?.id ?? 0, { reason: 'lost' })
  await shop.balances(t, { ...till, db, file, replica, cashier })
})

t.test('a till restored that sells nothing new says so, and is asked for what it has', async (t) => {
  const { shop, machine } = await scene(t)
  const backup = machine.backup()
  machine.db.exec('UPDATE receipt_lines SET quantity = 7 WHERE receipt_id = 2')
  await machine.replica.synchronize()
  await machine.restore(backup)
  await machine.replica.synchronize()
  await machine.replica.synchronize()
  await isEqual(t, shop, machine, 'what it has counts')
  t.same(await shop.central.orphans.list(), [])
})

t.test('a change of what stood there before, lost by a restore, is taken back', async (t) => {
  const shop = await openShop(t, server)
  const machine = new Machine(t, await shop.addTill('POS1'))
  await machine.replica.stop()
  machine.db.exec("DELETE FROM sync_state WHERE key LIKE 'published.%'")
  machine.cashier.sell('R-old', [line('OLD', '4')])
  machine.db.exec('DELETE FROM sync_touches')
  await machine.replica.install()
  await machine.replica.synchronize()
  t.equal(await shop.stock('OLD'), 0, 'it is withheld')
  const backup = machine.backup()
  machine.db.exec('UPDATE receipt_lines SET quantity = 7')
  await machine.replica.synchronize()
  t.equal(await shop.stock('OLD'), -3, 'only the change counts')
  await machine.restore(backup)
  await machine.replica.synchronize()
  await machine.replica.synchronize()
  t.equal(await shop.stock('OLD'), 0, 'the till has the former state again')
  machine.db.exec('UPDATE receipt_lines SET quantity = 6')
  await machine.replica.synchronize()
  t.equal(await shop.stock('OLD'), -2)
  t.same(await shop.central.orphans.list(), [])
})

t.test('a lost sale that is entered again alike is the same', async (t) => {
  const { shop, machine } = await lossOf(t, [line('LOST', '3')])
  machine.cashier.sell('R-lost', [line('LOST', '3')])
  await machine.replica.synchronize()
  t.equal(await shop.stock('LOST'), -3)
  t.same(await shop.central.orphans.list(), [])
  t.equal((await shop.central.orphans.list({ state: 'returned' })).length, 1)
  await isEqual(t, shop, machine, 'once')
})

t.test('a sale that came again after a restore is an orphan once more where a second one loses it', async (t) => {
  const { shop, machine } = await lossOf(t, [line('LOST', '3')])
  // It comes again behind the number at which it was known first.
  machine.db.exec("UPDATE receipts SET customer_no = 'C1' WHERE id = 1")
  await machine.replica.synchronize()
  const between = machine.backup()
  machine.cashier.sell('R-lost', [line('LOST', '3')])
  await machine.replica.synchronize()
  t.same(await shop.central.orphans.list(), [])
  await machine.restore(between)
  for (let run = 0; run < 2; run++) await machine.replica.synchronize()
  t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-lost' }, state: 'orphaned' }])
  t.equal(await shop.stock('LOST'), -3)
})

t.test('a sale that came again after a restore and is deleted is another one when its like is sold under its key', async (t) => {
  const { shop, machine } = await lossOf(t, [line('LOST', '3')])
  machine.cashier.sell('R-lost', [line('LOST', '3')])
  await machine.replica.synchronize()
  t.equal(await shop.stock('LOST'), -3, 'the same')
  machine.db.exec('DELETE FROM receipts WHERE id = 11')
  await machine.replica.synchronize()
  t.equal(machine.cashier.sell('R-lost', [line('LOST', '3')]), 11)
  await machine.replica.synchronize()
  t.equal(await shop.stock('LOST'), -6, 'another')
})

t.test('restored again and again, to earlier and later moments', async (t) => {
  const { shop, machine } = await scene(t)
  const backups = [machine.backup()]
  // A later state than the one that was restored before looks like a second copy: the operator says that it is the one to go on.
  const synchronize = async () => {
    for (;;) {
      try {
        return await machine.replica.synchronize()
      } catch (error) {
        t.match(error, { code: 'ERR_CLONED' })
        await shop.central.registers.keep(machine.till, { epoch: (await machine.replica.status()).head.epoch })
      }
    }
  }
  for (let round = 0; round < 12; round++) {
    machine.cashier.sell(`R-a${round}`, [line('ROUND')])
    if (random.chance(0.7)) await synchronize()
    backups.push(machine.backup())
    if (random.chance(0.5)) await machine.restore(random.pick(backups))
    if (random.chance(0.3)) machine.cashier.changeSomething(random)
  }
  await synchronize()
  const posted = await shop.stock('ROUND')
  const orphans = await shop.central.orphans.list()
  for (const { id } of orphans) await shop.central.orphans.withdraw(id, { reason: 'test' })
  await isEqual(t, shop, machine, `without the ${orphans.length} orphans: ${posted}`)
})

t.test('a till restored twice to where its histories parted, and central to there in between, is no second copy', async (t) => {
  const { shop, machine } = await scene(t)
  const backup = machine.backup()
  await backupOf(shop.pool, 'parting')
  machine.cashier.sell('R-lost', [line('LOST')])
  await machine.replica.synchronize()
  await machine.restore(backup)
  machine.cashier.sell('R-new', [line('NEW')])
  await machine.replica.synchronize()
  await restoreFrom(shop.pool, 'parting')
  await machine.replica.synchronize()
  t.equal(await shop.stock('NEW'), -1)
  await machine.restore(backup)
  await machine.replica.synchronize()
  machine.cashier.sell('R-newer', [line('NEWER')])
  await machine.replica.synchronize()
  t.same(await Promise.all(['LOST', 'NEW', 'NEWER'].map((item) => shop.stock(item))), [0, -1, -1])
  t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-new' } }])
})

t.test('central restored: the till sends again what central lost', async (t) => {
  const { shop, machine } = await scene(t)
  await backupOf(shop.pool, 'backup')
  for (let n = 0; n < 5; n++) machine.cashier.sell(`R-x${n}`, [line('LATER')])
  await machine.replica.synchronize()
  await restoreFrom(shop.pool, 'backup')
  t.equal(await shop.stock('LATER'), 0)
  machine.cashier.sell('R-y', [line('LATER')])
  await machine.replica.synchronize()
  await isEqual(t, shop, machine, 'all is there again')
  t.equal(await shop.stock('LATER'), -6)
})

t.test('central restored to before what the till has pruned: all is sealed anew, but what stood there before', async (t) => {
  const { shop, machine } = await scene(
    t,
    20,
    "INSERT INTO receipts VALUES (-1, NULL, 'R-before', 'BA01', '2026-11-01', '2026-11-01T09:00:00Z', NULL, 'posted', '0', NULL)",
  )
  await backupOf(shop.pool, 'backup')
  for (let n = 0; n < 5; n++) machine.cashier.sell(`R-x${n}`, [line('LATER')])
  await machine.replica.synchronize()
  const pruning = machine.till.again({ retainMs: 0 })
  t.ok((await pruning.prune()).entries > 30)
  await pruning.stop()
  await restoreFrom(shop.pool, 'backup')
  machine.cashier.sell('R-y', [line('LATER')])
  await machine.replica.synchronize()
  await machine.replica.synchronize()
  t.equal((await shop.pool.query("SELECT FROM receipts WHERE receipt_no = 'R-before'")).rowCount, 0, 'it was never given')
  machine.db.exec("DELETE FROM receipts WHERE receipt_no = 'R-before'")
  await isEqual(t, shop, machine, 'all is there again')
  t.equal(await shop.stock('OLD'), -10, 'and nothing twice')
  t.same(await shop.central.orphans.list(), [])
})

t.test('both restored', async (t) => {
  const { shop, machine } = await scene(t)
  machine.cashier.sell('R-a', [line('A')])
  const backup = machine.backup()
  await machine.replica.synchronize()
  machine.cashier.sell('R-b', [line('B')])
  await machine.replica.synchronize()
  await backupOf(shop.pool, 'backup')
  machine.cashier.sell('R-c', [line('C')])
  await machine.replica.synchronize()
  await machine.restore(backup)
  await restoreFrom(shop.pool, 'backup')
  machine.cashier.sell('R-d', [line('D')])
  await machine.replica.synchronize()
  t.same(await Promise.all(['A', 'B', 'C', 'D'].map((item) => shop.stock(item))), [-1, -1, 0, -1], 'what neither has is gone')
  t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-b' } }])
})

t.test('a cloned disk: both are held until one is chosen', async (t) => {
  for (const chosen of ['original', 'copy'] as const) {
    const { shop, machine } = await scene(t)
    const twin = await twinOf(t, shop, machine)
    machine.cashier.sell('R-o', [line('ORIGINAL')])
    await machine.replica.synchronize()
    twin.cashier.sell('R-t', [line('TWIN')])
    await twin.replica.synchronize()
    await t.rejects(machine.replica.synchronize(), { code: 'ERR_CLONED' })
    await t.rejects(twin.replica.synchronize(), { code: 'ERR_CLONED' })
    machine.cashier.sell('R-o2', [line('ORIGINAL')])
    await t.rejects(machine.replica.synchronize(), { code: 'ERR_CLONED' }, 'nothing is taken')
    const [listed] = await shop.central.registers.list()
    t.equal(listed?.copies?.length, 2)
    const [first, second] = [(await machine.replica.status()).head.epoch, (await twin.replica.status()).head.epoch]
    await t.rejects(shop.central.registers.keep(machine.till, { epoch: 'none' }), { code: 'ERR_REGISTER' })
    await shop.central.registers.keep(machine.till, { epoch: chosen === 'original' ? first : second })
    const [kept, other] = chosen === 'original' ? [machine, twin] : [twin, machine]
    await t.rejects(other.replica.synchronize(), { code: 'ERR_CLONED' }, `${chosen}: the other one`)
    await kept.replica.synchronize()
    await t.rejects(other.replica.synchronize(), { code: 'ERR_CLONED' }, `${chosen}: the other one, still`)
    kept.cashier.sell('R-k', [line('KEPT')])
    await kept.replica.synchronize()
    t.equal(await shop.stock('KEPT'), -1)
    t.equal(await shop.stock('ORIGINAL'), chosen === 'original' ? -2 : -1)
    t.equal(await shop.stock('TWIN'), -1)
    t.equal((await shop.central.registers.list())[0]?.copies, undefined)
    t.match(await shop.central.orphans.list(), [{ document: { receipt_no: chosen === 'original' ? 'R-t' : 'R-o' } }])
  }
})

t.test(
  'a copy of a till that is set up under another name sends nothing of what the first one sold, until it has a history of its own',
  async (t) => {
    const { shop, machine } = await scene(t)
    const other = new Machine(t, await shop.addTill('POS2'))
    const refused = { code: 'ERR_FOREIGN_REGISTER', message: /BA01\/POS1, not of BA01\/POS2/, context: { location: 'BA01', register: 'POS1' } }
    await other.restore(machine.backup())
    other.cashier.sell('C-1', [line('COPY')])
    await t.rejects(other.replica.synchronize(), refused)
    t.match((await other.replica.status()).lastError, refused)
    await other.replica.stop()
    t.equal(await shop.stock('OLD'), -10, 'nothing twice')
    await other.replica.uninstall()
    await other.replica.install()
    other.cashier.sell('C-2', [line('COPY')])
    await other.replica.synchronize()
    t.equal(await shop.stock('OLD'), -10)
    t.equal(await shop.stock('COPY'), -1, 'what was sold before is withheld')
    machine.cashier.sell('R-11', [line('OLD')])
    await machine.replica.synchronize()
    t.equal(await shop.stock('OLD'), -11, 'the first one goes on')
  },
)

t.test('a history that begins in the same process is known as its register’s own, as the first one was', async (t) => {
  const { shop, machine } = await scene(t)
  await machine.replica.uninstall()
  await machine.replica.install()
  await shop.central.registers.reset(machine.till)
  await machine.replica.synchronize()
  const [known] = await shop.central.registers.list()
  t.equal(known?.epoch, (await machine.replica.status()).head.epoch, 'though there is nothing to send yet')
  machine.cashier.sell('R-11', [line('NEW')])
  await machine.replica.synchronize()
  t.equal(await shop.stock('NEW'), -1)
  const copy = new Machine(t, await shop.addTill('POS2'))
  await copy.restore(machine.backup())
  await t.rejects(copy.replica.synchronize(), { code: 'ERR_FOREIGN_REGISTER', context: { location: 'BA01', register: 'POS1' } })
  t.equal(await shop.stock('NEW'), -1)
})

t.test('another database under an old name is refused until the register is reset', async (t) => {
  const { shop, machine } = await scene(t)
  const other = new Machine(t, await shop.addTill('POS2'))
  const fresh = other.till.again({ as: 'POS1', token: machine.till.token })
  other.cashier.sell('N-1', [line('FRESH', '2')])
  await t.rejects(fresh.synchronize(), { code: 'ERR_FORKED' })
  await t.rejects(fresh.synchronize(), { code: 'ERR_FORKED' })
  t.equal(await shop.stock('FRESH'), 0)
  await t.rejects(shop.central.registers.reset({ location: 'BA01', register: 'POS9' }), { code: 'ERR_REGISTER' })
  await shop.central.registers.reset(machine.till)
  await fresh.synchronize()
  t.equal(await shop.stock('FRESH'), -2, 'a new document under key 1')
  t.equal(await shop.stock('OLD'), -10, 'takes nothing away')
  other.cashier.sell('N-2', [line('FRESH')])
  await fresh.synchronize()
  t.equal(await shop.stock('FRESH'), -3)
  machine.cashier.sell('R-11', [line('OLD')])
  await t.rejects(machine.replica.synchronize(), { code: 'ERR_CLONED' }, 'the former one is still there')
})

t.test('a register that is reset though its database is the former one goes on as if nothing had been said', async (t) => {
  const { shop, machine } = await scene(t)
  await shop.central.registers.reset(machine.till)
  machine.cashier.sell('R-11', [line('OLD')])
  await machine.replica.synchronize()
  t.equal((await machine.replica.status()).pending, 0)
  t.equal(await shop.stock('OLD'), -11)
  t.same(await shop.central.orphans.list(), [])
  await isEqual(t, shop, machine, 'nothing twice')
})

t.test('a till restored to before its first entry, and once more: central knows the epoch, though it has nothing in common', async (t) => {
  const shop = await openShop(t, server)
  const machine = new Machine(t, await shop.addTill('POS1'))
  const backup = machine.backup()
  for (const item of ['FIRST', 'SECOND', 'THIRD']) {
    machine.cashier.sell(`R-${item}`, [line(item)])
    await machine.replica.synchronize()
    if (item !== 'THIRD') await machine.restore(backup)
  }
  t.same(await Promise.all(['FIRST', 'SECOND', 'THIRD'].map((item) => shop.stock(item))), [-1, -1, -1])
  t.equal((await shop.central.orphans.list()).length, 2)
})

t.test('a till restored to before its first entry twice, and central to between: it is known by its former epoch', async (t) => {
  const shop = await openShop(t, server)
  const machine = new Machine(t, await shop.addTill('POS1'))
  const backup = machine.backup()
  const sell = async (item: string) => {
    machine.cashier.sell(`R-${item}`, [line(item)])
    await machine.replica.synchronize()
  }
  await sell('FIRST')
  await machine.restore(backup)
  await sell('SECOND')
  await backupOf(shop.pool, 'backup')
  await sell('LOST')
  await machine.restore(backup)
  await sell('THIRD')
  await restoreFrom(shop.pool, 'backup')
  await sell('FOURTH')
  t.same(await Promise.all(['FIRST', 'SECOND', 'THIRD', 'FOURTH'].map((item) => shop.stock(item))), [-1, -1, -1, -1])
  t.equal((await shop.central.orphans.list()).length, 2)
  t.equal((await machine.replica.status()).pending, 0)
})

t.test('where the histories part inside a batch of which the till has lost the end, nothing before it is sent again', async (t) => {
  const shop = await openShop(t, server)
  const machine = new Machine(t, await shop.addTill('POS1'))
  machine.cashier.sell('R-1', [line('FIRST')])
  await machine.replica.seal()
  machine.db.exec('DELETE FROM receipts')
  await machine.replica.seal()
  const backup = machine.backup()
  for (const number of ['R-2', 'R-3']) {
    machine.cashier.sell(number, [line('LOST')])
    await machine.replica.synchronize()
  }
  await machine.restore(backup)
  await machine.replica.synchronize()
  t.same(await Promise.all(['FIRST', 'LOST'].map((item) => shop.stock(item))), [-1, -2], 'the one that was deleted is not posted twice')
})

t.test('a sale that a till has sent and deleted and then has again, from a backup in which it was not sealed, is the same', async (t) => {
  const { shop, machine } = await scene(t)
  machine.cashier.sell('R-11', [line('AGAIN')])
  const backup = machine.backup()
  await machine.replica.synchronize()
  machine.db.exec("DELETE FROM receipts WHERE receipt_no = 'R-11'")
  await machine.replica.synchronize()
  machine.cashier.sell('R-12', [line('LOST')])
  await machine.replica.synchronize()
  await machine.restore(backup)
  await machine.replica.synchronize()
  t.equal(await shop.stock('AGAIN'), -1)
  t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-12' } }])
  t.match(await shop.central.orphans.list({ state: 'returned' }), [{ document: { receipt_no: 'R-11' } }])
})

t.test('a late sale of a copy takes no line from a receipt that stands in the mirror', async (t) => {
  const { shop, machine } = await scene(t)
  const twin = await twinOf(t, shop, machine)
  machine.cashier.sell('R-11', [line('ORIGINAL')])
  await machine.replica.synchronize()
  twin.cashier.sell('R-t', [line('TWIN'), line('TWIN'), line('TWIN')])
  await twin.replica.synchronize()
  machine.cashier.sell('R-12', [line('LATE')])
  await t.rejects(machine.replica.synchronize(), { code: 'ERR_CLONED' })
  const { rows } = await shop.pool.query('SELECT id::int FROM receipt_lines WHERE receipt_id = 11 ORDER BY id')
  t.same(rows, [{ id: 11 }, { id: 12 }, { id: 13 }])
  t.equal(await shop.stock('LATE'), -1, 'it is posted all the same')
  t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-11' } }, { document: { receipt_no: 'R-12' } }])
})

t.test('a till restored to between two versions of a sale that were sent together still has it', async (t) => {
  const shop = await openShop(t, server)
  const machine = new Machine(t, await shop.addTill('POS1'))
  machine.cashier.sell('R-1', [line('KEPT')])
  await machine.replica.seal()
  const backup = machine.backup()
  machine.db.exec("UPDATE receipts SET customer_no = 'C1'")
  await machine.replica.synchronize()
  await machine.restore(backup)
  await machine.replica.synchronize()
  await machine.replica.synchronize()
  t.same(await shop.central.orphans.list(), [])
  await isEqual(t, shop, machine, 'as it was')
})

t.test('a register that was set up anew and then goes on with the former database after all counts nothing twice', async (t) => {
  const { shop, machine } = await scene(t)
  const other = new Machine(t, await shop.addTill('POS2'))
  const fresh = other.till.again({ as: 'POS1', token: machine.till.token })
  await shop.central.registers.reset(machine.till)
  other.cashier.sell('N-1', [line('FRESH')])
  await fresh.synchronize()
  await t.rejects(machine.replica.synchronize(), { code: 'ERR_CLONED' })
  await shop.central.registers.keep(machine.till, { epoch: (await machine.replica.status()).head.epoch })
  await machine.replica.synchronize()
  t.same(await Promise.all(['OLD', 'FRESH'].map((item) => shop.stock(item))), [-10, -1])
  t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'N-1' } }])
})

t.test('central restored twice to the same moment, and the till has pruned each time: all is sealed anew each time', async (t) => {
  const { shop, machine } = await scene(t)
  await backupOf(shop.pool, 'backup')
  for (const item of ['FIRST', 'SECOND', 'THIRD']) {
    machine.cashier.sell(`R-${item}`, [line(item)])
    await machine.replica.synchronize()
    await machine.replica.synchronize()
    const pruning = machine.till.again({ retainMs: 0 })
    await pruning.prune()
    await pruning.stop()
    if (item !== 'THIRD') await restoreFrom(shop.pool, 'backup')
  }
  await isEqual(t, shop, machine, 'all is there again')
  t.same(await shop.central.orphans.list(), [])
})

t.test('central restored to the moment at which a till had begun to tell all anew, and nothing of it had come', async (t) => {
  const shop = await openShop(t, server)
  const machine = new Machine(t, await shop.addTill('POS1'))
  const prune = async () => {
    const pruning = machine.till.again({ retainMs: 0 })
    await pruning.prune()
    await pruning.stop()
  }
  await backupOf(shop.pool, 'begun')
  machine.cashier.sell('R-1', [line('OLD')])
  machine.cashier.sell('R-2', [line('OLD')])
  await machine.replica.synchronize()
  await prune()
  await restoreFrom(shop.pool, 'begun')
  await machine.replica.synchronize()
  await machine.replica.synchronize()
  // The epoch began with a message that had no batch: what there is to tell was still being sealed.
  const { rows } = await shop.pool.query(`
    WITH epoch AS (INSERT INTO begun.sync_epochs SELECT * FROM sync_epochs RETURNING *)
    UPDATE begun.sync_registers r SET epoch_no = e.epoch_no, epoch = e.epoch, entry_no = e.start_no, digest = e.start_digest
    FROM epoch e WHERE e.register_id = r.register_id RETURNING e.start_no > e.parent_no AS behind_a_gap`)
  t.same(rows, [{ behind_a_gap: true }])
  for (const item of ['FIRST', 'SECOND', 'THIRD']) {
    machine.cashier.sell(`R-${item}`, [line(item)])
    await machine.replica.synchronize()
    await prune()
    await restoreFrom(shop.pool, 'begun')
    await machine.replica.synchronize()
    await machine.replica.synchronize()
    await isEqual(t, shop, machine, `all is there again: ${item}`)
  }
  t.equal(await shop.stock('OLD'), -2)
  t.same(await shop.central.orphans.list(), [])
  const { registers } = await shop.central.audit({ location: 'BA01' })
  t.same(
    registers[0]?.findings.filter(({ code }) => code !== 'ENTRIES_SKIPPED'),
    [],
  )
})

t.test('a till restored to before a removal, after a restore to before the key was used again, has the former document again', async (t) => {
  const { shop, machine } = await scene(t)
  machine.cashier.sell('R-11', [line('FIRST')])
  await machine.replica.synchronize()
  const there = machine.backup()
  machine.db.exec('DELETE FROM receipts WHERE id = 11')
  await machine.replica.synchronize()
  const gone = machine.backup()
  machine.cashier.sell('R-12', [line('LOST')])
  await machine.replica.synchronize()
  for (const backup of [gone, there]) {
    await machine.restore(backup)
    for (let run = 0; run < 2; run++) await machine.replica.synchronize()
  }
  t.same((await shop.pool.query('SELECT receipt_no FROM receipts WHERE id = 11')).rows, [{ receipt_no: 'R-11' }])
  t.same(await Promise.all(['FIRST', 'LOST'].map((item) => shop.stock(item))), [-1, -1])
  t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-12' } }])
})

t.test('a life of a key that ended in a history which was left is not taken for one of a later history', async (t) => {
  const { shop, machine } = await scene(t)
  const backup = machine.backup()
  machine.cashier.sell('R-11', [line('FIRST')])
  await machine.replica.synchronize()
  machine.db.exec('DELETE FROM receipts WHERE id = 11')
  await machine.replica.synchronize()
  await machine.restore(backup)
  machine.cashier.sell('R-12', [line('SECOND')])
  for (let run = 0; run < 2; run++) await machine.replica.synchronize()
  for (let round = 0; round < 2; round++) {
    await machine.restore(backup)
    for (let run = 0; run < 2; run++) await machine.replica.synchronize()
    t.match(await shop.central.orphans.list({ state: 'former' }), [{ document: { receipt_no: 'R-11' } }])
    t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-12' } }])
  }
  // Between where it began in the first history and where it ended there.
  machine.cashier.sell('R-13', [line('THIRD')])
  machine.cashier.sell('R-14', [line('THIRD')])
  await machine.replica.synchronize()
  const between = machine.backup()
  machine.cashier.sell('R-15', [line('THIRD')])
  await machine.replica.synchronize()
  await machine.restore(between)
  for (let run = 0; run < 2; run++) await machine.replica.synchronize()
  const { rows } = await shop.pool.query('SELECT receipt_no FROM receipts WHERE id BETWEEN 11 AND 12 ORDER BY id')
  t.same(rows, [{ receipt_no: 'R-13' }, { receipt_no: 'R-14' }])
  t.same(await Promise.all(['FIRST', 'SECOND', 'THIRD'].map((item) => shop.stock(item))), [-1, -1, -3])
})

t.test('late corrections of a sale whose key is taken are differences', async (t) => {
  const { shop, machine } = await scene(t)
  const twin = await twinOf(t, shop, machine)
  machine.cashier.sell('R-11', [line('ORIGINAL')])
  await machine.replica.synchronize()
  twin.cashier.sell('R-t', [line('TWIN')])
  await twin.replica.synchronize()
  machine.db.exec("UPDATE receipt_lines SET quantity = '4' WHERE receipt_id = 11")
  await t.rejects(machine.replica.synchronize(), { code: 'ERR_CLONED' })
  t.equal(await shop.stock('ORIGINAL'), -4)
  t.equal(await shop.stock('TWIN'), -1)
  t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-11', parts: { receipt_lines: [{ quantity: '4' }] } } }])
})

t.test('a late sale under the key of one that central knew, which was removed before, is posted', async (t) => {
  const { shop, machine } = await scene(t)
  const twin = await twinOf(t, shop, machine)
  machine.cashier.sell('R-11', [line('KNOWN')])
  await machine.replica.synchronize()
  twin.cashier.sell('R-t', [line('TWIN')])
  await twin.replica.synchronize()
  machine.db.exec("UPDATE receipt_lines SET quantity = '5' WHERE receipt_id = 9; DELETE FROM receipts WHERE id IN (10, 11)")
  await machine.replica.seal()
  machine.cashier.sell('R-10b', [line('LATE')])
  machine.cashier.sell('R-11b', [line('LATER')])
  await machine.replica.seal()
  machine.db.exec("UPDATE receipt_lines SET quantity = '3' WHERE receipt_id = 10")
  await t.rejects(machine.replica.synchronize(), { code: 'ERR_CLONED' })
  t.same(await Promise.all(['OLD', 'KNOWN', 'TWIN', 'LATE', 'LATER'].map((item) => shop.stock(item))), [-10, -1, -1, -3, -1])
  const orphans = (await shop.central.orphans.list()).map(({ document }) => document.receipt_no)
  t.same(orphans.toSorted(), ['R-10b', 'R-11', 'R-11b'])
})

t.test('a late sale under the key of one that a former restore has lost is posted', async (t) => {
  const { shop, machine } = await lossOf(t, [line('LOST')])
  const change = async (receipt: number) => {
    machine.db.exec(`UPDATE receipts SET customer_no = 'C1' WHERE id = ${receipt}`)
    await machine.replica.synchronize()
  }
  // Behind the number at which the lost one was known first, which says nothing of this history.
  await change(1)
  const backup = machine.backup()
  await change(2)
  const twin = await twinOf(t, shop, machine)
  await machine.restore(backup)
  await change(3)
  t.equal(twin.cashier.sell('R-late', [line('LATE')]), 11)
  await t.rejects(twin.replica.synchronize(), { code: 'ERR_CLONED' })
  t.same(await Promise.all(['LOST', 'LATE'].map((item) => shop.stock(item))), [-1, -1])
  const orphans = (await shop.central.orphans.list()).map(({ document }) => document.receipt_no)
  t.same(orphans, ['R-lost', 'R-late'])
})

t.test('a late correction of a sale that was withdrawn by hand posts nothing', async (t) => {
  for (const isTaken of [false, true]) {
    const { shop, machine } = await scene(t)
    const before = machine.backup()
    machine.cashier.sell('R-11', [line('ORIGINAL')])
    await machine.replica.synchronize()
    const twin = await twinOf(t, shop, machine)
    await machine.restore(before)
    if (isTaken) machine.cashier.sell('R-new', [line('NEW')])
    await machine.replica.synchronize()
    const [orphan] = await shop.central.orphans.list()
    await shop.central.orphans.withdraw(orphan?.id ?? 0, { reason: 'entered again' })
    twin.db.exec("UPDATE receipt_lines SET quantity = '4' WHERE receipt_id = 11")
    await t.rejects(twin.replica.synchronize(), { code: 'ERR_CLONED' })
    t.equal(await shop.stock('ORIGINAL'), 0, `${isTaken}`)
    t.match(await shop.central.orphans.list({ state: 'withdrawn' }), [{ reason: 'entered again' }])
  }
})

t.test('a late correction counts where the register went on from before the sale only with its second restore', async (t) => {
  const { shop, machine } = await scene(t)
  const before = machine.backup()
  machine.cashier.sell('R-11', [line('ORIGINAL')])
  machine.cashier.sell('R-12', [line('ORIGINAL')])
  await machine.replica.synchronize()
  const behind = machine.backup()
  machine.cashier.sell('R-13', [line('ORIGINAL')])
  await machine.replica.synchronize()
  const twin = await twinOf(t, shop, machine)
  for (const backup of [behind, before]) {
    await machine.restore(backup)
    machine.cashier.sell('R-new', [line('NEW')])
    for (let run = 0; run < 2; run++) await machine.replica.synchronize()
  }
  twin.db.exec("UPDATE receipt_lines SET quantity = '4' WHERE receipt_id = 11")
  await t.rejects(twin.replica.synchronize(), { code: 'ERR_CLONED' })
  t.equal(await shop.stock('ORIGINAL'), -6)
  t.equal(await shop.stock('NEW'), -2)
})

for (const where of ['inside its last sale', 'before its last sale']) {
  t.test(
    `a copy of a till that has pruned all but its last entry, up to ${where}, does not take for its own what central has of the other`,
    async (t) => {
      const { shop, machine } = await scene(t)
      const twin = await twinOf(t, shop, machine)
      await backupOf(shop.pool, 'backup')
      const isInside = where === 'inside its last sale'
      twin.cashier.sell('R-t1', isInside ? [line('TWIN'), line('TWIN')] : [line('TWIN')])
      if (!isInside)
        twin.db.exec(
          "INSERT INTO receipts (receipt_no, location, business_date, posted_at, status, net_amount) VALUES ('R-t2', 'BA01', '2026-11-21', '2026-11-21T09:30:00Z', 'posted', '0')",
        )
      await twin.replica.synchronize()
      const pruning = twin.till.again({ retainMs: 0 })
      await pruning.prune()
      await pruning.stop()
      await restoreFrom(shop.pool, 'backup')
      // Central has as much of the original as the copy has pruned.
      machine.cashier.sell('R-o', [line('ORIGINAL')])
      await machine.replica.synchronize()
      const [pruned, sent] = [await twin.replica.status(), await machine.replica.status()]
      t.equal(pruned.head.entryNo, sent.head.entryNo + 1)
      twin.cashier.sell('R-t3', [line('TWIN')])
      for (let times = 0; times < 2; times++) await twin.replica.synchronize()
      t.equal((await twin.replica.status()).pending, 0)
      t.equal(await shop.stock('TWIN'), isInside ? -3 : -2)
      t.equal(await shop.stock('ORIGINAL'), -1)
      t.equal(await shop.stock('OLD'), -10)
      t.match(await shop.central.orphans.list(), [{ document: { receipt_no: 'R-o' } }])
      await t.rejects(machine.replica.synchronize(), { code: 'ERR_CLONED' })
    },
  )
}

t.test('of two copies of a till that have sealed the same receipt, the one with a line more sends it whole', async (t) => {
  const { shop, machine } = await scene(t)
  const twin = await twinOf(t, shop, machine)
  const clock = { ...systemClock, now: () => Date.parse('2026-11-21T10:00:00Z') }
  for (const [{ db, till }, lines] of [
    [machine, 0],
    [twin, 1],
  ] as const) {
    db.transaction(() => {
      db.exec(
        "INSERT INTO receipts (id, receipt_no, location, business_date, posted_at, status, net_amount) VALUES (99, 'R-both', 'BA01', '2026-11-21', '2026-11-21T09:30:00Z', 'posted', '0')",
      )
      if (lines > 0) db.exec("INSERT INTO receipt_lines (receipt_id, item_no, quantity, net_amount) VALUES (99, 'TWIN', '1', '1')")
    })()
    const replica = till.again({ clock })
    await replica.synchronize()
    t.equal((await replica.status()).pending, 0)
    await replica.stop()
  }
  t.equal(await shop.stock('TWIN'), -1)
  t.equal(await shop.stock('OLD'), -10)
})
