import t, { type Test } from 'tap'
import type { TillsyncError } from '../../src/index.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { backupOf, Machine, restoreFrom } from '../support/world.ts'

const server = await startServer(t)

const line = (item: string, quantity = '1') => ({ item, quantity, amount: '1' })

async function scene(t: Test) {
  const shop = await openShop(t, server)
  const machine = new Machine(t, await shop.addTill('POS1', { pull: { recordsPerRun: 20 } }))
  for (let n = 1; n <= 10; n++) machine.cashier.sell(`R-${n}`, [line('OLD')])
  const pull = () => shop.central.synchronize(machine.till)
  await pull()
  return { shop, machine, pull }
}

async function isEqual(t: Test, shop: Shop, machine: Machine, message: string): Promise<void> {
  await shop.balances(t, { ...machine.till, db: machine.db }, message)
}

t.test('a pulled till restored from a backup: what it lost stays posted, what it sells is posted', async (t) => {
  const { shop, machine, pull } = await scene(t)
  const backup = machine.backup()
  machine.cashier.sell('R-lost', [line('LOST', '3')])
  machine.db.exec("UPDATE receipts SET status = 'voided' WHERE receipt_no = 'R-3'; DELETE FROM receipts WHERE receipt_no = 'R-4'")
  await pull()
  t.equal(await shop.stock('OLD'), -9)
  await machine.restore(backup)
  const forked: unknown[] = []
  machine.replica.on('forked', (event) => forked.push(event))
  machine.cashier.sell('R-new', [line('NEW', '5')])
  await pull()
  t.equal(forked.length, 1)
  t.equal((await machine.replica.status()).pending, 0)
  t.equal(await shop.stock('LOST'), -3, 'lost at the till, posted at central')
  t.equal(await shop.stock('NEW'), -5, 'under the same key')
  t.equal(await shop.stock('OLD'), -10, 'a void that was lost is taken back')
  const orphans = await shop.central.orphans.list()
  t.match(orphans, [{ document: { receipt_no: 'R-lost' }, state: 'orphaned' }])
  machine.cashier.sell('R-more', [line('NEW')])
  await pull()
  t.equal(await shop.stock('NEW'), -6)
  await shop.central.orphans.withdraw(orphans[0]?.id ?? 0, { reason: 'entered again' })
  await isEqual(t, shop, machine, 'after the withdrawal')
})

t.test('a pulled till restored that sells nothing new goes on, in one run', async (t) => {
  const { shop, machine, pull } = await scene(t)
  const backup = machine.backup()
  machine.db.exec('UPDATE receipt_lines SET quantity = 7 WHERE receipt_id = 2')
  await pull()
  await machine.restore(backup)
  await pull()
  await isEqual(t, shop, machine, 'what it has counts')
  t.same(await shop.central.orphans.list(), [])
})

t.test('central restored: what it lost is pulled again', async (t) => {
  const { shop, machine, pull } = await scene(t)
  await backupOf(shop.pool, 'backup')
  for (let n = 0; n < 5; n++) machine.cashier.sell(`R-x${n}`, [line('LATER')])
  await pull()
  await restoreFrom(shop.pool, 'backup')
  machine.cashier.sell('R-y', [line('LATER')])
  await pull()
  await isEqual(t, shop, machine, 'all is there again')
  t.equal(await shop.stock('LATER'), -6)
})

t.test('central restored to before what the till has pruned: all is sealed anew', async (t) => {
  const { shop, machine, pull } = await scene(t)
  await backupOf(shop.pool, 'backup')
  for (let n = 0; n < 5; n++) machine.cashier.sell(`R-x${n}`, [line('LATER')])
  await pull()
  const pruning = machine.till.again({ retainMs: 0 })
  t.ok((await pruning.prune()).entries > 30)
  await pruning.stop()
  await restoreFrom(shop.pool, 'backup')
  const running = machine.till.again()
  await running.start()
  machine.cashier.sell('R-y', [line('LATER')])
  await eventually('all is sealed anew and pulled', async () => {
    await pull()
    const { pending, unsealed, resealing } = await running.status()
    return pending === 0 && unsealed === 0 && resealing.length === 0
  })
  await isEqual(t, shop, machine, 'all is there again')
  t.equal(await shop.stock('OLD'), -10, 'and nothing twice')
  t.same(await shop.central.orphans.list(), [])
})

t.test('a cloned disk, pulled in turns: both are held until one is chosen', async (t) => {
  for (const chosen of ['original', 'copy'] as const) {
    const { shop, machine } = await scene(t)
    const copy = new Machine(t, await shop.addTill('POS2', { pull: { recordsPerRun: 20 } }))
    await shop.central.registers.revoke(copy.till)
    const backup = machine.backup()
    const twin = new Machine(t, { ...copy.till, again: (options) => copy.till.again({ ...options, as: 'POS1', token: machine.till.token }) })
    await twin.restore(backup)
    const pull = async (from: Machine) => {
      await shop.central.registers.change(machine.till, { pull: { url: from.till.url as string } })
      return shop.central.synchronize(machine.till)
    }
    const refusals: TillsyncError[] = []
    machine.replica.on('failed', ({ error }) => refusals.push(error))
    machine.cashier.sell('R-o', [line('ORIGINAL')])
    await pull(machine)
    twin.cashier.sell('R-t', [line('TWIN')])
    await pull(twin)
    await t.rejects(pull(machine), { code: 'ERR_CLONED' })
    await t.rejects(pull(twin), { code: 'ERR_CLONED' })
    machine.cashier.sell('R-o2', [line('ORIGINAL')])
    await t.rejects(pull(machine), { code: 'ERR_CLONED' }, 'nothing is taken')
    t.match(refusals.at(-1), { code: 'ERR_CLONED' }, 'the till is told')
    const epochs = [(await machine.replica.status()).head.epoch, (await twin.replica.status()).head.epoch]
    await shop.central.registers.keep(machine.till, { epoch: epochs[chosen === 'original' ? 0 : 1] as string })
    const [kept, other] = chosen === 'original' ? [machine, twin] : [twin, machine]
    await t.rejects(pull(other), { code: 'ERR_CLONED' }, `${chosen}: the other one`)
    await pull(kept)
    await t.rejects(pull(other), { code: 'ERR_CLONED' }, `${chosen}: the other one, still`)
    kept.cashier.sell('R-k', [line('KEPT')])
    await pull(kept)
    t.equal(await shop.stock('KEPT'), -1)
    t.equal(await shop.stock('ORIGINAL'), chosen === 'original' ? -2 : -1)
    t.equal(await shop.stock('TWIN'), -1)
    t.match(await shop.central.orphans.list(), [{ document: { receipt_no: chosen === 'original' ? 'R-t' : 'R-o' } }])
  }
})

t.test('another database under an old name is refused until the register is reset', async (t) => {
  const { shop, machine, pull } = await scene(t)
  const other = new Machine(t, await shop.addTill('POS2', { pull: true }))
  const fresh = other.till.again({ as: 'POS1', token: machine.till.token })
  await shop.central.registers.change(machine.till, { pull: { url: other.till.url as string } })
  other.cashier.sell('N-1', [line('FRESH', '2')])
  await t.rejects(pull(), { code: 'ERR_FORKED' })
  t.match((await fresh.status()).lastError, { code: 'ERR_FORKED' }, 'both sides know')
  await t.rejects(pull(), { code: 'ERR_FORKED' })
  t.equal(await shop.stock('FRESH'), 0)
  await shop.central.registers.reset(machine.till)
  await pull()
  t.equal((await fresh.status()).lastError, undefined)
  t.equal(await shop.stock('FRESH'), -2, 'a new document under key 1')
  t.equal(await shop.stock('OLD'), -10, 'takes nothing away')
})
