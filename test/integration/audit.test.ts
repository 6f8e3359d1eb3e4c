import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { type AnyTables, createCentral, mirror, type NumberingRules, type PublishRules } from '../../src/index.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { found, shown } from '../support/proofs.ts'
import { line, poisoned } from '../support/quarantine.ts'
import { refused } from '../support/refused.ts'
import { openShop, PUBLISH, type ShopOptions } from '../support/shop.ts'
import { TILL_SCHEMA } from '../support/tables.ts'
import { backupOf, Machine, restoreFrom } from '../support/world.ts'

const server = await startServer(t)
const POS1 = { location: 'BA01', register: 'POS1' }
const NUMBERING: NumberingRules<AnyTables> = {
  receipts: { column: 'receipt_no', void: { status: 'voided' }, voidedIn: { void_numbers: { receipt_no: 'number' } } },
}
const SCHEMA = `${TILL_SCHEMA}; CREATE TABLE void_numbers (id INTEGER PRIMARY KEY, number TEXT NOT NULL)`
const IDENTIFIED = { ...PUBLISH, receipts: { ...PUBLISH.receipts, identity: ['receipt_no'] }, void_numbers: {} } as PublishRules<AnyTables>

async function scene(t: Test, options: ShopOptions = {}, publish = IDENTIFIED) {
  const shop = await openShop(t, server, { numbering: NUMBERING, ...options })
  const machine = new Machine(t, await shop.addTill('POS1', { schema: SCHEMA, publish, transfer: { recordsPerRun: 7 } }))
  const sell = (...numbers: number[]) => numbers.map((n) => machine.cashier.sell(`R-${String(n).padStart(4, '0')}`, [line('A'), line('B', '2')]))
  return { shop, machine, sell }
}

t.test('a sound stream: every entry is there, and the digest is that of the till', async (t) => {
  const { shop, machine, sell } = await scene(t)
  t.match(await shop.central.audit(POS1), { clean: true, registers: [{ ...POS1, standing: undefined, pending: 0, epochs: [], findings: [] }] })
  sell(...Array.from({ length: 20 }, (_, n) => n + 1))
  await machine.replica.synchronize()
  machine.db.exec("UPDATE receipts SET status = 'voided' WHERE id IN (3, 4, 9)")
  await machine.replica.synchronize()
  const { head } = await machine.replica.status()
  const audit = await shop.central.audit({ location: 'BA01' })
  t.same(found(audit), [])
  t.equal(audit.clean, true)
  t.match(audit.registers, [{ ...POS1, standing: head, pending: 0, epochs: [{ epoch: head.epoch, after: 0, through: 92, archived: 92, pruned: 0 }] }])
  const range = { table: 'receipts', column: 'receipt_no', by: {}, prefix: 'R-' }
  t.same(audit.registers[0]?.numbers, [
    {
      table: 'receipts',
      column: 'receipt_no',
      documents: 20,
      unnumbered: 0,
      series: 1,
      void: 3,
      voids: [
        { ...range, from: 3, through: 4 },
        { ...range, from: 9, through: 9 },
      ],
    },
  ])
})

t.test('versions of a document that came in one batch are archived each by its own number', async (t) => {
  const { shop, machine } = await scene(t)
  const { replica, cashier, db } = machine
  cashier.sell('R-0001', [])
  for (const customer of ['C1', 'C2']) {
    await replica.seal()
    db.prepare('UPDATE receipts SET customer_no = ?').run(customer)
  }
  await replica.synchronize()
  const { rows } = await shop.pool.query('SELECT document_no FROM sync_archive ORDER BY entry_no')
  t.same(
    rows.map(({ document_no }) => document_no),
    ['1', '1', '3', '3', '5', '5'],
  )
  t.same(found(await shop.central.audit(POS1)), [])
})

t.test('what was done to the archive by hand is found, and nothing else', async (t) => {
  const { shop, machine, sell } = await scene(t)
  const { pool, central } = shop
  sell(1, 2, 3, 4, 5, 6)
  await machine.replica.synchronize()
  machine.db.exec("UPDATE receipts SET customer_no = 'C1' WHERE id IN (2, 5)")
  await machine.replica.synchronize()
  await backupOf(pool, 'whole')
  const damages: readonly (readonly [sql: string, found: readonly string[]])[] = [
    ['DELETE FROM sync_archive WHERE entry_no = 7', ['ENTRIES_MISSING 7']],
    ['DELETE FROM sync_archive WHERE entry_no BETWEEN 10 AND 11', ['ENTRIES_MISSING 10…11']],
    ['DELETE FROM sync_archive WHERE entry_no = 5', ['ENTRIES_MISSING 5']],
    // What the till sent last.
    ['DELETE FROM sync_archive WHERE entry_no > 30', ['ENTRIES_MISSING 31…32']],
    // A whole document that no later one has replaced: its number is gone with it.
    ['DELETE FROM sync_archive WHERE document_no = 9', ['ENTRIES_MISSING 9…12', 'NUMBERS_MISSING R-3']],
    ['DELETE FROM sync_archive', ['ENTRIES_MISSING 1…32']],
    [`UPDATE sync_archive SET record = replace(record, '"quantity":"2"', '"quantity":"3"') WHERE entry_no = 7`, ['DIGEST 4…8']],
    ["UPDATE sync_archive SET record = 'nonsense' WHERE entry_no = 9", ['DIGEST 8…12', 'NUMBERS_MISSING R-3', 'NUMBER_UNREADABLE receipts [3]']],
    ["UPDATE sync_archive SET sealed_at = sealed_at - interval '1 day' WHERE entry_no = 7", ['DIGEST 4…8']],
    ["UPDATE sync_archive SET record_id = '[99]' WHERE entry_no = 7", ['DIGEST 4…8']],
    // What says to which document an entry belongs.
    [`UPDATE sync_archive SET record = replace(record, '"quantity":"2"', '"quantity":"3"'), document_no = 1 WHERE entry_no = 7`, ['DIGEST 4…8']],
    ['UPDATE sync_archive SET document_no = 7 WHERE entry_no = 7', ['DIGEST 4…8']],
    // Where its history began is not known any more.
    ['DELETE FROM sync_epochs', ['DIGEST 0…32']],
    ['UPDATE sync_epochs SET epoch_no = 2', ['DIGEST 0…32']],
    [
      `INSERT INTO sync_archive SELECT register_id, epoch_no, 40, table_name, operation, record_id, record, 40, sealed_at, received_at
       FROM sync_archive WHERE entry_no = 32`,
      ['ENTRIES_UNKNOWN 40'],
    ],
    ["UPDATE sync_registers SET digest = repeat('1', 64)", ['DIGEST 32…32']],
    ["UPDATE sync_epochs SET start_digest = repeat('1', 64)", ['DIGEST 0…4']],
    // The point is wrong, and so is what is computed from it.
    ["UPDATE sync_points SET digest = decode(repeat('11', 32), 'hex') WHERE entry_no = 8", ['DIGEST 4…8', 'DIGEST 8…12']],
    ['UPDATE sync_registers SET held = true', ['CLONED']],
    ['UPDATE sync_registers SET head_no = 40', []],
  ]
  for (const [sql, wanted] of damages) {
    await pool.query(sql)
    const audit = await central.audit(POS1)
    t.same(found(audit), wanted, sql)
    t.equal(audit.clean, wanted.length === 0)
    if (sql.includes('head_no')) t.equal(audit.registers[0]?.pending, 8)
    await restoreFrom(pool, 'whole')
  }
  t.same(found(await central.audit(POS1)), [], 'put back, it is sound')
})

t.test('what was pruned is proved by its digests, and what was removed beside it by hand is missing', async (t) => {
  const { shop, machine, sell } = await scene(t, { retainArchiveMs: 0 })
  sell(1, 2, 3, 4, 5)
  await machine.replica.synchronize()
  for (const customer of ['C1', 'C2', 'C3']) {
    machine.db.exec(`UPDATE receipts SET customer_no = '${customer}' WHERE id IN (1, 2, 4)`)
    await machine.replica.synchronize()
  }
  const before = (await shop.central.audit(POS1)).registers[0]
  t.same(await shop.central.prune(), { entries: 36 })
  const audit = await shop.central.audit(POS1)
  t.same(found(audit), [])
  t.same(audit.registers[0]?.standing, before?.standing)
  t.match(audit.registers[0]?.epochs, [{ through: 56, archived: 20, pruned: 36 }])
  await backupOf(shop.pool, 'whole')
  const damages: Record<string, readonly string[]> = {
    // R-0003, which stands between two that were pruned.
    'DELETE FROM sync_archive WHERE entry_no = 10': ['ENTRIES_MISSING 10'],
    'DELETE FROM sync_archive WHERE document_no = 9': ['ENTRIES_MISSING 9…12', 'NUMBERS_MISSING R-3'],
    "UPDATE sync_archive SET record_id = '[99]' WHERE entry_no = 10": ['DIGEST 8…12'],
    'UPDATE sync_points SET pruned_after = NULL WHERE entry_no = 4': ['ENTRIES_MISSING 1…4'],
    // Of what was pruned only the digest behind it is known.
    "UPDATE sync_points SET digest = decode(repeat('11', 32), 'hex') WHERE entry_no = 8": ['DIGEST 8…12'],
  }
  for (const [sql, wanted] of Object.entries(damages)) {
    await shop.pool.query(sql)
    t.same(found(await shop.central.audit(POS1)), wanted, sql)
    await restoreFrom(shop.pool, 'whole')
  }
})

t.test('numbers that are missing, used twice, declared void, and those that are none', async (t) => {
  const { shop, machine, sell } = await scene(t, {}, { ...PUBLISH, void_numbers: {} })
  const numbers = async () => found(await shop.central.audit(POS1))
  sell(1, 2, 3, 6, 9, 10)
  await machine.replica.synchronize()
  t.same(await numbers(), ['NUMBERS_MISSING R-4…5', 'NUMBERS_MISSING R-7…8'])
  t.match((await shop.central.audit(POS1)).registers[0]?.counts, { NUMBERS_MISSING: 4 })
  // One that comes late, one that is declared void, by a table of its own.
  sell(7)
  machine.db.exec("INSERT INTO void_numbers (number) VALUES ('R-0004'), ('R-8')")
  await machine.replica.synchronize()
  t.same(await numbers(), ['NUMBERS_MISSING R-5'])
  const voids = (await shop.central.audit(POS1)).registers[0]?.numbers[0]
  t.match(voids, { documents: 7, series: 1, void: 2 })
  t.same(
    voids?.voids.map(({ from, through }) => [from, through]),
    [
      [4, 4],
      [8, 8],
    ],
  )
  // A receipt that is still open has its number, and has not left the till.
  machine.cashier.sell('R-5', [line('A')], { status: 'open' })
  await machine.replica.synchronize()
  t.same(await numbers(), ['NUMBERS_MISSING R-5'])
  machine.db.exec("UPDATE receipts SET status = 'posted'")
  await machine.replica.synchronize()
  t.same(await numbers(), [])
  // The same number, otherwise written.
  const [again] = [machine.cashier.sell('R-05', [line('A')])]
  await machine.replica.synchronize()
  t.same(await numbers(), [`NUMBER_TWICE R-5 [${again - 1}] present, [${again}] present`])
  machine.db.exec(`UPDATE receipts SET receipt_no = 'R-11' WHERE id = ${again}`)
  await machine.replica.synchronize()
  t.same(await numbers(), [], 'corrected: only the latest version counts')
  // What the till purges was there; what it purges and uses again is not the same number.
  machine.db.exec("DELETE FROM receipts WHERE receipt_no IN ('R-0002', 'R-11')")
  await machine.replica.synchronize()
  t.same(await numbers(), [])
  const [twelve] = sell(12)
  t.equal(twelve, again, 'the key of one that is gone')
  await machine.replica.synchronize()
  t.same(await numbers(), [])
  sell(2)
  await machine.replica.synchronize()
  t.match(await numbers(), [/^NUMBER_TWICE R-2 \[2\] removed, \[\d+\] present$/])
  machine.db.exec("DELETE FROM receipts WHERE receipt_no = 'R-0002'; INSERT INTO void_numbers (number) VALUES ('R-99999999999999999999')")
  await machine.replica.synchronize()
  machine.cashier.sell('no number at all', [line('A')])
  await machine.replica.synchronize()
  t.match(await numbers(), ['NUMBERS_MISSING R-13…99999999999999999998', /^NUMBER_TWICE R-2 /, /^NUMBER_UNREADABLE receipts \[\d+\]$/])
})

t.test('series are told apart by columns and by what stands before the digits', async (t) => {
  const schema = `
    CREATE TABLE sales (id INTEGER PRIMARY KEY, series TEXT, year INTEGER, number, fiscal TEXT, state INTEGER, note TEXT);
    CREATE TABLE voided (id INTEGER PRIMARY KEY, serie TEXT, jahr INTEGER, nr INTEGER);`
  const numbering: NumberingRules<AnyTables> = {
    sales: [
      {
        column: 'number',
        by: ['series', 'year'],
        first: 1,
        void: [{ state: 9 }, { state: 8, note: null }],
        voidedIn: { voided: { number: 'nr', series: 'serie', year: 'jahr' } },
      },
      { column: 'fiscal' },
    ],
  }
  const shop = await openShop(t, server, { schema: 'CREATE TABLE nothing (id int)', subscribe: {}, numbering })
  const till = await shop.addTill('POS1', { schema, publish: { sales: {}, voided: {} } })
  const add = till.db.prepare('INSERT INTO sales (series, year, number, fiscal, state, note) VALUES (?, ?, ?, ?, ?, ?)')
  const rows: unknown[][] = [
    ['A', 2026, 2, '2026-0007', 1, null],
    ['A', 2026, 4.0, '2026-0008', 1, 'half of a pair: \\ud800'],
    ['A', 2027, 1, '2027-0001', 9, 'a \u0000 in it, and "\\u0000"'],
    ['A', 2027, 3, '2027-0002', 8, null],
    [null, 2027, 7, '2027-0004', 8, 'x'],
    [null, 2027, '8', null, 1, null],
    ['B', 2027, null, 'Z1', 1, null],
    ['B', 2027, 1.5, 'Z٣', 1, null],
  ]
  for (const row of rows) add.run(...row)
  till.db.exec("INSERT INTO voided (serie, jahr, nr) VALUES ('A', 2026, 3), (NULL, 2027, 6), (NULL, 2027, 5), ('C', 2027, 1)")
  await till.replica.synchronize()
  const audit = await shop.central.audit(POS1)
  t.same(
    audit.registers[0]?.findings.map((finding) => {
      if (finding.code === 'NUMBERS_MISSING') return `${Object.values(finding.by)} ${finding.prefix}: ${finding.from}…${finding.through}`
      return shown(finding)
    }),
    ['A,2026 : 1…1', 'A,2027 : 2…2', ',2027 : 1…4', 'NUMBER_UNREADABLE sales [8]', ' 2027-: 3…3', 'NUMBER_UNREADABLE sales [8]'],
  )
  t.match(audit.registers[0]?.numbers, [
    { column: 'number', documents: 6, unnumbered: 1, series: 4, void: 6 },
    { column: 'fiscal', documents: 6, unnumbered: 1, series: 3, void: 0 },
  ])
})

t.test('what a restored till has lost is an orphan, and its numbers count until it is settled', async (t) => {
  const { shop, machine, sell } = await scene(t)
  sell(1, 2, 3)
  await machine.replica.synchronize()
  const backup = machine.backup()
  sell(4, 5)
  machine.db.exec("UPDATE receipts SET customer_no = 'C1' WHERE id = 2; DELETE FROM receipts WHERE id = 3")
  await machine.replica.synchronize()
  await machine.restore(backup)
  sell(4)
  await machine.replica.synchronize()
  const orphans = await shop.central.orphans.list()
  t.match(
    orphans.map(({ document }) => document.receipt_no),
    ['R-0005'],
    'R-0004 was entered again just as it was',
  )
  t.same(found(await shop.central.audit(POS1)), ['ORPHANED receipts [5]'])
  const [six] = sell(6)
  await machine.replica.synchronize()
  t.same([six, found(await shop.central.audit(POS1))], [5, ['ORPHANED receipts [5]']], 'the key is used again, the number counts')
  sell(5)
  await machine.replica.synchronize()
  t.same(
    found(await shop.central.audit(POS1)),
    ['ORPHANED receipts [5]', 'NUMBER_TWICE R-5 [5] orphaned, [6] present'],
    'entered again under another key',
  )
  await shop.central.orphans.withdraw(orphans[0]?.id as number, { reason: 'entered again' })
  t.same(found(await shop.central.audit(POS1)), [])
  const { head } = await machine.replica.status()
  const audit = await shop.central.audit(POS1)
  t.match(audit.registers[0], {
    standing: head,
    epochs: [
      { after: 0, through: 25 },
      { after: 12, epoch: head.epoch },
    ],
    settled: { discarded: 0, withdrawn: 1 },
  })
})

t.test('what waits, what is parked and what was given up is named', async (t) => {
  const poison = poisoned()
  const { shop, machine, sell } = await scene(t, { subscribe: { receipts: poison.handler } })
  sell(1)
  machine.cashier.sell('R-0002', [line('POISON')])
  machine.cashier.sell('R-0003', [line('POISON')])
  sell(4)
  await machine.replica.synchronize()
  t.same(found(await shop.central.audit(POS1)), ['QUARANTINED receipts [2]', 'QUARANTINED receipts [3]'], 'their numbers are there')
  const [first] = await shop.central.quarantine.list()
  await shop.central.quarantine.discard(first?.id as number, { reason: 'a training sale' })
  machine.db.exec(
    "UPDATE receipts SET id = 'x' || id WHERE false; INSERT INTO receipts SELECT 5, NULL, 'R-0005', location, business_date, posted_at, zeroblob(100000000), status, net_amount, NULL FROM receipts WHERE id = 1",
  )
  await machine.replica.synchronize()
  const audit = await shop.central.audit(POS1)
  t.same(found(audit), ['QUARANTINED receipts [3]', 'PARKED receipts [5]'])
  t.same(audit.registers[0]?.settled, { discarded: 1, withdrawn: 0 })
})

t.test('all registers of a location, each for itself; and what can’t be audited is refused', async (t) => {
  const { shop, sell, machine } = await scene(t)
  const other = await shop.addTill('POS2', { schema: SCHEMA, publish: IDENTIFIED })
  await shop.addTill('POS1', { location: 'BA02', schema: SCHEMA, publish: IDENTIFIED })
  sell(1, 2)
  other.cashier.sell('R-5', [line('A')])
  other.cashier.sell('R-7', [line('A')])
  await machine.replica.synchronize()
  await other.replica.synchronize()
  const audit = await shop.central.audit({ location: 'BA01' })
  t.same(
    audit.registers.map(({ register, clean, findings }) => [register, clean, findings.map(shown)]),
    [
      ['POS1', true, []],
      ['POS2', false, ['NUMBERS_MISSING R-6']],
    ],
  )
  t.equal(audit.clean, false)
  const bad = (which: unknown) => () => shop.central.audit(which as never)
  await refused(t, bad({ location: 'BA09' }), 'ERR_REGISTER')
  await refused(t, bad({ location: 'BA01', register: 'POS9' }), 'ERR_REGISTER')
  for (const which of [
    undefined,
    null,
    'BA01',
    {},
    { location: '' },
    { location: 'BA\0' },
    { register: 'POS1' },
    { ...POS1, table: 'receipts' },
    { ...POS1, signal: 'x' },
  ])
    await refused(t, bad(which), 'ERR_OPTION')
  await t.rejects(shop.central.audit({ ...POS1, signal: AbortSignal.abort() }), { code: 'ERR_ABORTED' })
  const pool = await createPool(t, server)
  const numberings: unknown[] = [
    'receipts',
    [],
    { receipts: 'receipt_no' },
    { receipts: {} },
    { receipts: { column: '' } },
    { receipts: { column: 'a', by: 'b' } },
    { receipts: { column: 'a', by: ['a'] } },
    { receipts: { column: 'a', by: ['b', 'b'] } },
    { receipts: { column: 'a', first: 1.5 } },
    { receipts: { column: 'a', void: {} } },
    { receipts: { column: 'a', void: (record: unknown) => record } },
    { receipts: { column: 'a', void: { status: {} } } },
    { receipts: { column: 'a', voidedIn: { voids: {} } } },
    { receipts: { column: 'a', voidedIn: { voids: { a: 'x', c: 'y' } } } },
    { receipts: { column: 'a', by: ['b'], voidedIn: { voids: { a: 'x' } } } },
    { receipts: { column: 'a', voidedIn: { receipts: { a: 'x' } } } },
    { receipts: { column: 'a', anything: 1 } },
    { receipts: [{ column: 'a' }, { column: 'a' }] },
  ]
  for (const numbering of numberings)
    await refused(
      t,
      async () => createCentral({ database: postgres(pool), subscribe: { receipts: mirror() }, numbering: numbering as never }),
      'ERR_OPTION',
    )
})
