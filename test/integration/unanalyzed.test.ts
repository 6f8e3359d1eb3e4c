import type { Pool } from 'pg'
import t from 'tap'
import type { AnyDocument } from '../../src/index.ts'
import { CLOSING_PUBLISH, CLOSING_TILL, ClosingCashier, computed, receiptLines } from '../support/closings.ts'
import { startServer } from '../support/postgres.ts'
import { openShop, PUBLISH } from '../support/shop.ts'
import { Machine } from '../support/world.ts'

const server = await startServer(t)
const RECEIPTS = 1_500
/** Reads of an entry, a document or an orphan that a question may need for each receipt. Read for each other receipt once, it would be thousands. */
const MOST_READS = 400

/** What was read by indexes of the library's tables. What connections have counted is told when they have something to do. */
async function readsOf(pool: Pool): Promise<number> {
  await Promise.all(Array.from({ length: pool.options.max }, () => pool.query('SELECT pg_stat_force_next_flush(), pg_sleep(0.1)')))
  const { rows } = await pool.query("SELECT sum(idx_tup_read)::float8 AS reads FROM pg_stat_user_indexes WHERE relname LIKE 'sync\\_%'")
  return rows[0].reads
}

async function neverAnalyze(pool: Pool): Promise<void> {
  for (const { name } of (await pool.query("SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relname LIKE 'sync\\_%'")).rows)
    await pool.query(`ALTER TABLE ${name} SET (autovacuum_enabled = false)`)
}

t.test('nothing takes longer for each receipt the more there are, though PostgreSQL has never counted them', async (t) => {
  const shop = await openShop(t, server, { numbering: { receipts: { column: 'receipt_no' } } })
  const publish = { ...PUBLISH, receipts: { ...PUBLISH.receipts, identity: ['receipt_no'] } } as typeof PUBLISH
  const machine = new Machine(t, await shop.addTill('POS1', { publish, transfer: { recordsPerRun: 500 } }))
  const { central, pool } = shop
  await neverAnalyze(pool)
  const sell = () => {
    for (let n = 1; n <= RECEIPTS; n++) machine.cashier.sell(`R-${n}`, [{ item: 'A', quantity: '1', amount: '1' }])
  }
  const empty = machine.backup()
  const POS1 = { location: 'BA01', register: 'POS1' }
  const asks: Readonly<Record<string, () => Promise<unknown>>> = {
    'a backlog is applied': async () => {
      sell()
      return machine.replica.synchronize()
    },
    'entries of a record': () => central.entries({ ...POS1, table: 'receipts', recordId: [RECEIPTS] }),
    audit: () => central.audit(POS1),
    reconcile: () => central.reconcile({ ...POS1, businessDate: '2026-11-21' }),
    trace: () => central.trace('receipts', { receipt_no: 'R-7' }),
    'a till is restored': async () => {
      await machine.restore(empty)
      return machine.replica.synchronize()
    },
    'entries of orphans': () => central.entries({ ...POS1, state: 'orphaned', limit: 1_000 }),
    'audit with orphans': () => central.audit(POS1),
    'all is entered again': async () => {
      sell()
      return machine.replica.synchronize()
    },
    'all is deleted': async () => {
      machine.db.exec('DELETE FROM receipts')
      return machine.replica.synchronize()
    },
    'reconcile what is gone': () => central.reconcile({ ...POS1, businessDate: '2026-11-21' }),
    'audit of what is gone': () => central.audit(POS1),
    replay: () => central.replay({ table: 'receipts' }),
  }
  for (const [what, ask] of Object.entries(asks)) {
    const before = await readsOf(pool)
    await ask()
    const reads = ((await readsOf(pool)) - before) / RECEIPTS
    t.ok(reads < MOST_READS, what, { reads })
    t.comment(`${what}: ${Math.round(reads)} reads a receipt`)
  }
})

t.test('nor where closings wait for receipts in quarantine, many turns of them', async (t) => {
  const state = { mended: false }
  const lines = (receipt: AnyDocument) => {
    if (!state.mended) throw new Error('to be mended')
    return receiptLines(receipt)
  }
  const shop = await openShop(t, server, {
    schema: '',
    subscribe: computed(false, lines),
    retry: { minMs: 86_400_000, maxMs: 86_400_000, perTurn: 10 },
  })
  const { pool, central } = shop
  await neverAnalyze(pool)
  const till = await shop.addTill('POS1', { schema: CLOSING_TILL, publish: CLOSING_PUBLISH, transfer: { recordsPerRun: 100 } })
  const cashier = new ClosingCashier(till.db)
  const [receipts, each] = [400, 100]
  for (let n = 1; n <= receipts; n++) cashier.sell('sale', n, [{ item: 'A', quantity: '1', net: '10' }])
  for (let n = 1; n <= receipts; n += each) cashier.closeRange(`Z-${n}`, [n, n + each - 1])
  await till.replica.synchronize()
  t.equal((await central.waitingClosings()).length, receipts / each)
  const readsFor = async (work: () => Promise<unknown>) => {
    const before = await readsOf(pool)
    await work()
    return ((await readsOf(pool)) - before) / receipts
  }
  state.mended = true
  const released = await readsFor(async () => t.same(await central.quarantine.retry({}), { released: receipts, waiting: 0 }))
  t.ok(released < 60, 'they are tried again', { released })
  t.same([(await central.waitingClosings()).length, (await central.closings({ location: 'BA01' })).closings.length], [0, receipts / each])
  const exported = await readsFor(async () => {
    await till.replica.export('receipts', (eb) => eb('id', '>', 0))
    await till.replica.synchronize()
  })
  t.ok(exported < 6, 'they come again', { exported })
  const corrected = await readsFor(async () => {
    till.db.exec("UPDATE receipt_lines SET net_amount = '11'")
    await till.replica.synchronize()
  })
  t.ok(corrected < 15, 'they are corrected', { corrected })
  t.comment(`${released}, ${exported}, ${corrected} reads a receipt`)
})
