import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { type ArchivedDocument, mirror, stockMovements } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { CLOSING_PUBLISH, CLOSING_TILL, ClosingCashier, computed } from '../support/closings.ts'
import { onEachDatabase } from '../support/each-database.ts'
import { recording } from '../support/links.ts'
import { startServer } from '../support/postgres.ts'
import { poisoned } from '../support/quarantine.ts'
import { refused } from '../support/refused.ts'
import { movementsAt, openShop, SUBSCRIBE } from '../support/shop.ts'
import { Machine } from '../support/world.ts'

const server = await startServer(t)
const line = (item: string, quantity = '1', amount = '1') => ({ item, quantity, amount })
const POS1 = { location: 'BA01', register: 'POS1' }
/** Of each version: its number, what it did, how far it came. */
const versionsOf = (document: ArchivedDocument | undefined) =>
  document?.versions.map(({ entryNo, operation, stage, incarnation }) => `${incarnation}: ${entryNo} ${operation} ${stage}`)

t.test('trace() follows a receipt through its life at central, by any of its columns', async (t) => {
  const { central, addTill } = await openShop(t, server)
  const [one, two] = [await addTill('POS1'), await addTill('POS2')]
  t.same(await central.trace('receipts', { receipt_no: 'R-1' }), [], 'nothing was ever received')
  for (const till of [two, one]) {
    till.cashier.sell('R-1', [line('A', '2')])
    till.cashier.sell('R-2', [line('B')])
    await till.replica.synchronize()
  }
  const found = await central.trace('receipts', { receipt_no: 'R-1' })
  t.same(
    found.map(({ location, register }) => `${location} ${register}`),
    ['BA01 POS1', 'BA01 POS2'],
    'of both registers',
  )
  const { epoch } = (await one.replica.status()).head
  t.match(found[0], {
    ...POS1,
    table: 'receipts',
    recordId: [1],
    stage: 'applied',
    entryNo: 1,
    at: /Z$/,
    why: undefined,
    incarnation: 1,
    removed: false,
    parked: false,
    wanted: false,
    postings: [
      {
        ledger: 'stock_movements',
        revision: 1,
        delivered: true,
        epoch,
        entryNo: 1,
        postedAt: /Z$/,
        rows: [{ item: 'A', location: 'BA01', document: 'R-1', quantity: '-2', amount: '1' }],
      },
    ],
    closings: [],
    quarantine: [],
    orphans: [],
    versions: [{ epoch, entryNo: 1, operation: 'upsert', stage: 'applied', sealedAt: /Z$/, receivedAt: /Z$/ }],
    pruned: 0,
  })
  one.db.exec("UPDATE receipts SET receipt_no = 'R-1b' WHERE id = 1; UPDATE receipt_lines SET quantity = '3' WHERE receipt_id = 1")
  await one.replica.synchronize()
  const trace = async (which: Record<string, unknown>) => (await central.trace('receipts', which, POS1))[0]
  const changed = await trace({ receipt_no: 'R-1' })
  t.match(changed, { stage: 'applied', entryNo: 7, postings: [{ entryNo: 1 }, { entryNo: 7, revision: 2 }] }, 'by a number that it had')
  t.same(versionsOf(changed), ['1: 1 upsert archived', '1: 7 upsert applied'])
  t.match(changed?.versions[0]?.why, /replaced/)
  t.same(await trace({ receipt_no: 'R-1b' }), changed)
  for (const id of [1, 1n, '1', 1.0]) t.same(await trace({ id }), changed, `by its key ${typeof id}`)
  t.same(await trace({ id: 1, receipt_no: 'R-1' }), changed)
  t.equal(await trace({ id: 1, receipt_no: 'R-2' }), undefined, 'the key is that of another')
  one.db.exec('DELETE FROM receipts WHERE id = 1')
  await one.replica.synchronize()
  const removed = await trace({ receipt_no: 'R-1' })
  t.match(removed, { stage: 'applied', entryNo: 7, removed: true, why: /removed/ }, 'what was posted stays')
  t.same(versionsOf(removed)?.at(-1), '1: 10 remove archived')
  one.cashier.sell('R-3', [line('C')])
  one.db.exec(
    'BEGIN; PRAGMA defer_foreign_keys = ON; UPDATE receipts SET id = 1 WHERE id = 3; UPDATE receipt_lines SET receipt_id = 1 WHERE receipt_id = 3; UPDATE tender_lines SET receipt_id = 1 WHERE receipt_id = 3; COMMIT',
  )
  await one.replica.synchronize()
  const again = await trace({ receipt_no: 'R-3' })
  t.match(again, { recordId: [1], incarnation: 2, removed: false, stage: 'applied' })
  t.same(versionsOf(again), ['1: 1 upsert archived', '1: 7 upsert applied', '1: 10 remove archived', '2: 11 upsert applied'])
  t.same(
    again?.postings.map(({ incarnation, revision, rows }) => `${incarnation}.${revision} ${rows.map(({ quantity }) => quantity)}`),
    ['1.1 -2', '1.2 -3,2', '2.1 -1'],
  )
  t.equal((await central.trace('receipts', [{ receipt_no: 'R-3' }, { receipt_no: 'R-2' }])).length, 3)
  t.equal((await central.trace('receipts', { status: 'posted' }, { limit: 2 })).length, 2)
  t.match(await central.trace('receipts', { receipt_no: 'R-2' }, { register: 'POS2' }), [{ register: 'POS2' }])
})

t.test('what was received before `since` is left out', async (t) => {
  const { central, addTill, pool } = await openShop(t, server)
  const till = await addTill()
  till.cashier.sell('R-1', [line('A')])
  await till.replica.synchronize()
  const { now } = (await pool.query('SELECT clock_timestamp() AS now')).rows[0] as { now: Date }
  await pause(20)
  till.cashier.sell('R-2', [line('A')])
  await till.replica.synchronize()
  const numbers = async (which: object, since?: Date) => (await central.trace('receipts', which, since && { since })).map(({ entryNo }) => entryNo)
  t.same(await numbers({ status: 'posted' }, now), [4])
  t.same(await numbers({ status: 'posted' }), [4, 1])
  t.same(await numbers([{ id: 1 }, { id: 2 }], now), [4])
})

t.test('trace() says what is in quarantine, and what of it was applied before', async (t) => {
  const { handler, state } = poisoned()
  const subscribe = { ...SUBSCRIBE, receipts: [mirror({ origin: ['location', 'register'] }), handler] }
  const { central, addTill } = await openShop(t, server, { subscribe })
  const { cashier, db, replica } = await addTill()
  cashier.sell('R-1', [line('POISON')])
  cashier.sell('R-2', [line('A')])
  await replica.synchronize()
  const trace = async (receipt_no: string) => (await central.trace('receipts', { receipt_no }))[0]
  t.match(await trace('R-1'), {
    stage: 'quarantined',
    entryNo: 1,
    at: /Z$/,
    why: /^ERR_HANDLER: .*poison/,
    postings: [],
    quarantine: [{ state: 'waiting', code: 'ERR_HANDLER', message: /poison/, attempts: 1 }],
    versions: [{ stage: 'quarantined' }],
  })
  db.exec("UPDATE receipt_lines SET item_no = 'POISON' WHERE receipt_id = 2")
  await replica.synchronize()
  const second = await trace('R-2')
  t.match(second, { stage: 'quarantined', entryNo: 7, postings: [{ entryNo: 4 }] })
  t.same(versionsOf(second), ['1: 4 upsert applied', '1: 7 upsert quarantined'], 'the older one stands meanwhile')
  const [waiting] = await central.quarantine.list()
  await central.quarantine.discard(waiting?.id ?? 0, { reason: 'a training sale' })
  t.match(await trace('R-1'), {
    stage: 'quarantined',
    why: 'Discarded: a training sale',
    quarantine: [{ state: 'discarded', reason: 'a training sale' }],
  })
  state.mended = true
  await central.quarantine.retry({})
  t.match(await trace('R-2'), { stage: 'applied', why: undefined, quarantine: [] })
})

t.test('trace() says what a restore has taken from the till, and what became of it', async (t) => {
  const shop = await openShop(t, server)
  const { central } = shop
  const machine = new Machine(t, await shop.addTill())
  machine.cashier.sell('R-1', [line('A')])
  await machine.replica.synchronize()
  const backup = machine.backup()
  for (const no of ['R-2', 'R-3', 'R-4']) machine.cashier.sell(no, [line('B')])
  machine.db.exec("UPDATE receipts SET customer_no = 'C' WHERE id = 1")
  await machine.replica.synchronize()
  await machine.restore(backup)
  machine.db.exec(
    "INSERT INTO receipts SELECT 9, process_id, 'R-x', location, business_date, posted_at, customer_no, 'posted', net_amount, '1' FROM receipts",
  )
  // The exchange in which the fork is found names what is wanted; a later one brings it.
  const trace = async (receipt_no: string) => (await central.trace('receipts', { receipt_no }))[0]
  await machine.replica.synchronize()
  t.match(await trace('R-2'), {
    stage: 'applied',
    why: /^Its register has lost it by a restore.*orphan \d/,
    orphans: [{ state: 'orphaned', orphanedAt: /Z$/ }],
  })
  machine.cashier.sell('R-2', [line('B')])
  await machine.replica.synchronize()
  await machine.replica.synchronize()
  const first = await trace('R-1')
  t.match(first, { stage: 'applied', wanted: false, orphans: [] })
  t.same(
    first?.versions.map(({ stage }) => stage),
    ['archived', 'archived', 'applied'],
    'the version that was lost is replaced by the one that the till has',
  )
  t.equal(new Set(first?.versions.map(({ epoch }) => epoch)).size, 2)
  const orphans = await central.orphans.list()
  const [third] = await central.trace('receipts', { receipt_no: 'R-3' })
  await central.orphans.withdraw(orphans.find(({ recordId }) => recordId === `[${third?.recordId}]`)?.id ?? 0, { reason: 'entered again' })
  t.match(await trace('R-3'), { stage: 'archived', why: 'Withdrawn: entered again', orphans: [{ state: 'withdrawn', reason: 'entered again' }] })
  t.equal((await trace('R-3'))?.postings.length, 2, 'with the reversal')
  t.match(await trace('R-4'), { stage: 'applied', orphans: [{ state: 'orphaned' }] })
})

t.test('trace() says what is wanted once more', async (t) => {
  const shop = await openShop(t, server)
  const machine = new Machine(t, await shop.addTill())
  machine.cashier.sell('R-1', [line('A')])
  await machine.replica.synchronize()
  await shop.pool.query("UPDATE sync_documents SET state = 'wanted'")
  t.match(await shop.central.trace('receipts', { receipt_no: 'R-1' }), [{ wanted: true, stage: 'applied', why: /asked to send it once more/ }])
})

t.test('trace() says what is parked at the till, and what comes in frames', async (t) => {
  const shop = await openShop(t, server, { maxMessageBytes: 65_536 })
  let line_: ReturnType<typeof recording> | undefined
  const till = await shop.addTill('POS1', {
    link: (inner) => {
      line_ = recording(inner)
      return line_
    },
  })
  till.cashier.sell('R-1', [line('A')])
  await till.replica.synchronize()
  till.cashier.sell('R-2', [line('A')])
  till.db.exec('UPDATE receipts SET customer_no = hex(zeroblob(40000)) WHERE id IN (1, 2)')
  await till.replica.synchronize()
  t.match(await shop.central.trace('receipts', { id: 2 }), [
    { recordId: [2], stage: 'unsealed', entryNo: undefined, parked: true, why: /can't read it/, versions: [] },
  ])
  t.same(await shop.central.trace('receipts', { receipt_no: 'R-2' }), [], 'central was told its key only')
  t.match(await shop.central.trace('receipts', { receipt_no: 'R-1' }), [{ stage: 'applied', parked: true, why: /can't read it/ }])
  till.cashier.sell(
    'R-3',
    Array.from({ length: 4_000 }, (_, n) => line(`I${n}`)),
  )
  await till.replica.seal()
  await t.rejects(till.replica.synchronize({ onProgress: () => void till.replica.stop() }))
  for (const which of [{ id: 3 }, { receipt_no: 'R-3' }])
    t.match(await shop.central.trace('receipts', which), [
      { recordId: [3], stage: 'waiting', at: /Z$/, why: /frames: \d+ bytes/, versions: [], postings: [] },
    ])
  const again = till.again()
  await again.synchronize()
  t.match(await shop.central.trace('receipts', { receipt_no: 'R-3' }), [{ stage: 'applied', why: undefined }])
})

t.test('trace() says that versions were pruned', async (t) => {
  const { central, addTill } = await openShop(t, server, { retainArchiveMs: 0 })
  const { cashier, db, replica } = await addTill()
  cashier.sell('R-1', [line('A')])
  await replica.synchronize()
  for (const customer of ['C1', 'C2', 'C3']) {
    db.exec(`UPDATE receipts SET customer_no = '${customer}'`)
    await replica.synchronize()
  }
  await central.prune()
  const [traced] = await central.trace('receipts', { receipt_no: 'R-1' })
  t.match(traced, { stage: 'applied', entryNo: 10, pruned: 3, postings: [{ entryNo: 1 }, {}, {}, {}] })
  t.same(await central.trace('receipts', { customer_no: 'C1' }), [], 'what is pruned is found no more')
})

t.test('trace() says to which closing a receipt belongs, and what a closing waits for', async (t) => {
  const shop = await openShop(t, server, { schema: 'SELECT 1', subscribe: computed() })
  const till = await shop.addTill('POS1', { schema: CLOSING_TILL, publish: CLOSING_PUBLISH })
  const cashier = new ClosingCashier(till.db)
  cashier.sell('sale', 1, [{ item: 'A', quantity: '2', net: '10' }])
  await till.replica.synchronize()
  const receipt = async () => (await shop.central.trace('receipts', { series: 'sale', number: 1 }))[0]
  t.match(await receipt(), { stage: 'applied', postings: [], closings: [] }, 'no closing has come')
  till.db.exec("INSERT INTO plu_closings (closing_no, business_date, first_sale, last_sale) VALUES ('Z-1', '2026-11-21', 1, 5)")
  await till.replica.synchronize()
  const posted = [{ location: 'BA01', closingNo: 1, businessDate: '2026-11-21', document: 'Z-1', supplementNo: 0, postedAt: /Z$/ }]
  t.match((await receipt())?.closings, [{ table: 'plu_closings', recordId: '[1]', lines: [{ item: 'A', quantity: '2' }], posted, waits: undefined }])
  t.match(await shop.central.trace('plu_closings', { closing_no: 'Z-1' }), [
    { postings: [{ ledger: 'posted_plu_closings' }], closings: [{ recordId: '[1]', lines: undefined, posted }] },
  ])
  till.db.exec("INSERT INTO plu_closings (closing_no, business_date, first_sale, last_sale) VALUES ('Z-2', '2026-11-21', 5, 9)")
  await till.replica.synchronize()
  t.match(await shop.central.trace('plu_closings', { closing_no: 'Z-2' }), [{ closings: [{ posted: [], waits: { why: 'taken', recordId: '[1]' } }] }])
})

t.test('trace() says what nobody handles, and what removals take away where they are applied', async (t) => {
  const movements = stockMovements(movementsAt('BA01'), { removals: 'apply' })
  const subscribe = { receipts: [mirror({ origin: ['location', 'register'], removals: 'apply' }), movements] }
  const { central, addTill } = await openShop(t, server, { subscribe })
  const { cashier, db, replica } = await addTill()
  db.exec("INSERT INTO pos_processes (id, opened_at) VALUES (7, '2026-11-21T10:00:00Z')")
  cashier.sell('R-1', [line('A')])
  await replica.synchronize()
  t.match(await central.trace('pos_processes', { id: 7 }), [{ stage: 'archived', why: /No handler/ }])
  db.exec('DELETE FROM receipts')
  await replica.synchronize()
  const [removed] = await central.trace('receipts', { receipt_no: 'R-1' })
  t.match(removed, { stage: 'applied', entryNo: 5, removed: true })
  t.same(versionsOf(removed), ['1: 2 upsert archived', '1: 5 remove applied'])
})

t.test('what somebody has deleted by hand is said, and harms no other', async (t) => {
  const { central, addTill, pool } = await openShop(t, server)
  const { cashier, replica } = await addTill()
  for (const no of ['R-1', 'R-2', 'R-3']) cashier.sell(no, [line('A')])
  await replica.synchronize()
  await pool.query(
    "DELETE FROM sync_archive WHERE entry_no = 1; DELETE FROM sync_documents WHERE record_id = '[2]'; UPDATE sync_archive SET record = 'nonsense' WHERE entry_no = 7",
  )
  t.same(await central.trace('receipts', { receipt_no: 'R-1' }), [])
  t.match(await central.trace('receipts', { id: 1 }), [{ stage: 'archived', entryNo: 1, why: /by hand/, versions: [], pruned: 1 }])
  t.match(await central.trace('receipts', { receipt_no: 'R-2' }), [{ stage: 'applied', versions: [{ entryNo: 4 }] }], 'what was posted tells')
  t.match(await central.trace('receipts', { id: 3 }), [{ stage: 'applied' }])
})

const TABLES = 'CREATE TABLE notes (code VARCHAR(40), part INTEGER, body TEXT, amount NUMERIC(9, 2), PRIMARY KEY (code, part))'
onEachDatabase(t, server, 'documents are found by keys and values of every spelling', TABLES, async (t, host) => {
  const shop = await openShop(t, server, { schema: 'SELECT 1', subscribe: { notes: () => undefined } })
  const { token } = await shop.central.registers.add(POS1)
  const till = host.create({ notes: {} }, { transfer: { type: 'push', link: httpLink({ url: shop.url, token }) } })
  await till.install()
  await host.exec(`INSERT INTO notes VALUES ('a"b', 1, 'x"y\\z', 1.5), ('${'ä'.repeat(5)}', 2, NULL, 2), ('Z', 47110, '4711', 3)`)
  await till.synchronize()
  const found = async (which: Record<string, unknown>) => (await shop.central.trace('notes', which)).map(({ recordId }) => recordId)
  t.same(await found({ code: 'a"b', part: 1 }), [['a"b', 1]])
  t.same(await found({ part: '1', code: 'a"b' }), [['a"b', 1]])
  t.same(await found({ code: 'a"b' }), [['a"b', 1]], 'by half of the key')
  t.same(await found({ body: 'x"y\\z' }), [['a"b', 1]])
  t.same(await found({ body: null }), [['äääää', 2]])
  t.same(await found({ code: 'äääää', body: null }), [['äääää', 2]])
  t.same(await found({ body: 4711 }), [['Z', 47110]], 'a number that is kept as text')
  t.same(await found({ part: 4711 }), [], 'no beginning of a number')
  t.same(await found({ body: 'x' }), [])
  t.equal((await found({ amount: host.dialect === 'sqlite' ? 1.5 : '1.50' })).length, 1)
})

t.test('trace() refuses what it can not look for', async (t) => {
  const { central, addTill } = await openShop(t, server)
  const till = await addTill()
  t.same(await central.trace('receipts', { nope: 1 }), [], 'nothing is there that could tell')
  till.cashier.sell('R-1', [line('A')])
  await till.replica.synchronize()
  await refused(t, () => central.trace('receipt', { receipt_no: 'R-1' }), 'ERR_UNKNOWN_TABLE')
  await refused(t, () => central.trace('receipt_lines', { id: 1 }), 'ERR_UNKNOWN_TABLE', 'a part')
  await refused(t, () => central.trace('receipts', { nope: 1 }), 'ERR_UNKNOWN_COLUMN')
  await refused(t, () => central.trace('receipts', { id: 1, nope: 1 }), 'ERR_UNKNOWN_COLUMN')
  await refused(t, () => central.trace('receipts', { receipt_no: 'R-1' }, { location: 'BA01', register: 'POS9' }), 'ERR_REGISTER')
  for (const which of [{}, [], null, 7, 'R-1', (() => true) as never, { id: new Date() }, { id: undefined }, { id: {} }, Array(101).fill({ id: 1 })])
    await refused(t, () => central.trace('receipts', which as never), 'ERR_OPTION', String(JSON.stringify(which)?.slice(0, 40)))
  for (const options of [{ sginal: 1 }, { limit: 0 }, { since: 'yesterday' }, { location: '' }])
    await refused(t, () => central.trace('receipts', { id: 1 }, options as never), 'ERR_OPTION', JSON.stringify(options))
  await t.rejects(central.trace('receipts', { receipt_no: 'R-1' }, { signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' })
  t.same(await central.trace('receipts', { receipt_no: "'; DROP TABLE sync_archive; --" }), [])
  await central.stop()
  await t.rejects(central.trace('receipts', { id: 1 }), { code: 'ERR_STOPPED' })
})
