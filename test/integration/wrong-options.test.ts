import { randomBytes } from 'node:crypto'
import Database from 'better-sqlite3'
import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { createCentral, createRegister, TillsyncError } from '../../src/index.ts'
import { fileMailbox } from '../../src/transport/file.ts'
import { CLOSING_PUBLISH, CLOSING_TILL, ClosingCashier, READY_MADE } from '../support/closings.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { openShop } from '../support/shop.ts'

t.setTimeout(180_000)
const server = await startServer(t)

type Call = (...args: unknown[]) => unknown

/** What is never an object of options. */
const NO_OBJECTS: readonly unknown[] = [
  null,
  5,
  'x',
  '',
  true,
  [],
  [null],
  () => 1,
  new Date(),
  Promise.resolve(1),
  new AbortController().signal,
  5n,
  Symbol('x'),
]
/** What is never a name. */
const NO_NAMES: readonly unknown[] = [
  null,
  5,
  -1,
  Number.NaN,
  '',
  'a\0b',
  'a\ud800',
  'x'.repeat(201),
  true,
  [],
  {},
  () => 1,
  new Date(),
  5n,
  Symbol('x'),
]
const NO_TIMES = NO_NAMES.filter((one) => !(one instanceof Date))
const NO_NUMBERS: readonly unknown[] = [null, -1, 1.5, Number.NaN, 2 ** 60, '5', true, [], {}, 5n, Symbol('x')]
const NO_SIGNALS: readonly unknown[] = [null, 5, 'x', true, {}, [], () => 1, { aborted: false }]
const NO_FUNCTIONS: readonly unknown[] = [null, 5, 'x', true, {}, []]
const NO_REASONS: readonly unknown[] = [undefined, null, 5, '', '  ', 'a\0b', 'a\ud800', {}, ['x']]

t.test('what central is wrongly asked is refused with a code and a hint, and changes nothing', async (t) => {
  const shop = await openShop(t, server, {
    schema: 'CREATE TABLE items (item_no text PRIMARY KEY)',
    subscribe: READY_MADE,
    publish: { items: {} },
  })
  const till = await shop.addTill('POS1', { schema: CLOSING_TILL, publish: CLOSING_PUBLISH })
  new ClosingCashier(till.db).close('Z1', [{ item: 'A', quantity: '1', net: '1' }])
  await till.replica.synchronize()
  const { central } = shop
  const state = async () =>
    JSON.stringify([
      await central.entries(),
      await central.registers.list(),
      await central.closings({ location: 'BA01' }),
      (await shop.pool.query('SELECT * FROM sync_credentials ORDER BY 1, 2')).rows,
    ])
  const before = await state()
  const name = { location: 'BA01', register: 'POS1' }
  const ask = central as unknown as Record<string, Call>
  const { registers, quarantine, orphans } = central as unknown as Record<string, Record<string, Call>>
  const call =
    (of: Record<string, Call> | undefined, method: string): Call =>
    (...args) =>
      of?.[method]?.(...args)

  const refuses = async (what: string, run: () => unknown) => {
    const error = await Promise.resolve()
      .then(run)
      .then(
        () => undefined,
        (thrown: unknown) => thrown,
      )
    const isRefused = error instanceof TillsyncError && error.code === 'ERR_OPTION' && error.hint !== undefined
    if (!isRefused) t.fail(`${what}: ${error instanceof TillsyncError ? `${error.code}, ${error.hint}` : error}`)
  }
  const each = async (what: string, values: readonly unknown[], run: (value: unknown) => unknown) => {
    for (const [n, value] of values.entries()) await refuses(`${what} ${n} ${String(value).slice(0, 20)}`, () => run(value))
  }

  /** Functions with an object of options, and what they need before it; which of its fields are of which kind. */
  const functions: readonly (readonly [string, Call, readonly unknown[], object, Readonly<Record<string, readonly unknown[]>>])[] = [
    ['synchronize', call(ask, 'synchronize'), [undefined], {}, { signal: NO_SIGNALS, onProgress: NO_FUNCTIONS }],
    [
      'entries',
      call(ask, 'entries'),
      [],
      {},
      { location: NO_NAMES, register: NO_NAMES, table: NO_NAMES, limit: NO_NUMBERS, state: NO_NAMES, since: NO_TIMES, until: NO_TIMES },
    ],
    [
      'trace',
      call(ask, 'trace'),
      ['plu_closings', { id: 1 }],
      {},
      { location: NO_NAMES, register: NO_NAMES, limit: NO_NUMBERS, since: NO_TIMES, signal: NO_SIGNALS },
    ],
    [
      'compare',
      call(ask, 'compare'),
      ['plu_closings', name],
      {},
      { repair: [null, 5, 'x'], timeoutMs: NO_NUMBERS, signal: NO_SIGNALS, onProgress: NO_FUNCTIONS },
    ],
    ['prune', call(ask, 'prune'), [], {}, { signal: NO_SIGNALS }],
    ['replay', call(ask, 'replay'), [{ table: 'plu_closings' }], {}, { signal: NO_SIGNALS, onProgress: NO_FUNCTIONS }],
    [
      'replay which',
      call(ask, 'replay'),
      [],
      { table: 'plu_closings' },
      { table: NO_NAMES, since: NO_TIMES, registers: [null, 5, 'x', {}, [null], [{}], [{ location: 'a\0b', register: 'x' }]] },
    ],
    [
      'closings',
      call(ask, 'closings'),
      [],
      { location: 'BA01' },
      {
        location: ['', 'a\0b', null, 5],
        register: NO_NAMES,
        businessDate: NO_NAMES.filter((one) => typeof one !== 'object' || one === null),
        closingNo: NO_NUMBERS.filter((one) => typeof one !== 'object'),
        limit: NO_NUMBERS,
      },
    ],
    ['waitingClosings', call(ask, 'waitingClosings'), [], {}, { location: NO_NAMES, register: NO_NAMES }],
    ['audit', call(ask, 'audit'), [], { location: 'BA01' }, { location: NO_NAMES, register: NO_NAMES, signal: NO_SIGNALS }],
    [
      'reconcile',
      call(ask, 'reconcile'),
      [],
      { location: 'BA01', businessDate: '2026-11-21' },
      { location: NO_NAMES, register: NO_NAMES, businessDate: NO_NAMES, signal: NO_SIGNALS },
    ],
    ['export', call(ask, 'export'), ['items', { item_no: '1' }], {}, { to: NO_OBJECTS }],
    [
      'quarantine.list',
      call(quarantine, 'list'),
      [],
      {},
      { location: NO_NAMES, register: NO_NAMES, table: NO_NAMES, state: NO_NAMES, after: NO_NUMBERS, limit: NO_NUMBERS },
    ],
    ['quarantine.retry', call(quarantine, 'retry'), [], {}, { location: NO_NAMES, register: NO_NAMES, table: NO_NAMES }],
    ['quarantine.discard', call(quarantine, 'discard'), [1], { reason: 'x' }, { reason: NO_REASONS }],
    [
      'orphans.list',
      call(orphans, 'list'),
      [],
      {},
      { location: NO_NAMES, register: NO_NAMES, table: NO_NAMES, state: NO_NAMES, after: NO_NUMBERS, limit: NO_NUMBERS },
    ],
    ['orphans.withdraw', call(orphans, 'withdraw'), [1], { reason: 'x' }, { reason: NO_REASONS }],
    [
      'registers.add',
      call(registers, 'add'),
      [],
      { location: 'BA01', register: 'POS9' },
      { location: NO_NAMES, register: NO_NAMES, attributes: [null, 5, 'x', [], new Date(), { group: [] }, { group: 'a\0b' }], pull: NO_OBJECTS },
    ],
    ['registers.change', call(registers, 'change'), [name], { attributes: {} }, { attributes: [null, 5, 'x', [], new Date()], pull: NO_OBJECTS }],
    ['registers.rotate', call(registers, 'rotate'), [name], {}, { overlapMs: NO_NUMBERS }],
    ['registers.keep', call(registers, 'keep'), [name], { epoch: 'x' }, { epoch: [null, undefined, 5, 'a\0b', {}] }],
  ]
  for (const [what, run, args, options, fields] of functions) {
    // An id is no object, and what it was asked for by a number it refuses by another code.
    await each(`${what} options`, what === 'quarantine.retry' ? NO_OBJECTS.filter((one) => typeof one !== 'number') : NO_OBJECTS, (value) =>
      run(...args, value),
    )
    await refuses(`${what} another option`, () => run(...args, { ...options, another: 1 }))
    for (const [field, values] of Object.entries(fields))
      await each(`${what} ${field}`, values, (value) => run(...args, { ...options, [field]: value }))
  }
  const ofRegisters = ['change', 'rotate', 'revoke', 'reset', 'keep'].map((method) => [`registers.${method}`, call(registers, method)] as const)
  for (const [what, run] of [...ofRegisters, ['compare', (of: unknown, ...more: unknown[]) => ask.compare?.('plu_closings', of, ...more)] as const]) {
    const more = what.endsWith('keep') ? [{ epoch: 'x' }] : what.endsWith('change') ? [{ attributes: {} }] : []
    await each(`${what} location`, NO_NAMES, (location) => run({ ...name, location }, ...more))
    await each(`${what} register`, NO_NAMES, (register) => run({ ...name, register }, ...more))
    await each(`${what} name`, [null, undefined, 5, 'x', []], (of) => run(of, ...more))
  }
  for (const method of ['trace', 'compare', 'export'])
    await each(`${method} table`, NO_NAMES, (table) => ask[method]?.(table, method === 'compare' ? name : { id: 1 }))
  await each('trace which', NO_OBJECTS, (which) => ask.trace?.('plu_closings', which))
  for (const [of, method] of [
    [quarantine, 'retry'],
    [quarantine, 'discard'],
    [orphans, 'withdraw'],
    [orphans, 'sendBack'],
  ] as const)
    await each(`${method} id`, [0, -1, 1.5, '1', null, 2 ** 60], (id) =>
      of?.[method]?.(id, ...(method === 'retry' || method === 'sendBack' ? [] : [{ reason: 'x' }])),
    )
  await each('on', ['nothing', null, 5], (event) => ask.on?.(event, () => undefined))
  await each('on listener', NO_FUNCTIONS, (listener) => ask.on?.('applied', listener))
  t.equal(await state(), before, 'all is as it was')
})

t.test('what a register is wrongly asked is refused with a code and a hint', async (t) => {
  const shop = await openShop(t, server, { schema: '', subscribe: READY_MADE })
  const { replica } = await shop.addTill('POS1', { schema: CLOSING_TILL, publish: CLOSING_PUBLISH })
  const ask = replica as unknown as Record<string, Call>
  const cases: readonly (readonly [string, readonly unknown[], readonly string[]])[] = [
    ['synchronize', [], ['signal', 'onProgress']],
    ['reseal', ['plu_closings'], ['signal']],
    ['trace', ['plu_closings', { id: 1 }], ['signal']],
    ['prune', [], ['signal']],
    ['install', [], []],
    ['export', ['plu_closings', { id: 1 }], []],
    ['entries', [], []],
  ]
  for (const [method, args, fields] of cases) {
    for (const value of NO_OBJECTS)
      await t.rejects(
        Promise.resolve().then(() => ask[method]?.(...args, value)),
        { code: 'ERR_OPTION', hint: String },
        method,
      )
    await t.rejects(
      Promise.resolve().then(() => ask[method]?.(...args, { another: 1 })),
      { code: 'ERR_OPTION', hint: String },
      method,
    )
    for (const field of fields)
      for (const value of NO_FUNCTIONS)
        await t.rejects(
          Promise.resolve().then(() => ask[method]?.(...args, { [field]: value })),
          { code: 'ERR_OPTION', hint: String },
          `${method} ${field}`,
        )
  }
  for (const table of [...NO_NAMES, Object.create(null)])
    for (const method of ['reseal', 'export', 'trace', 'on'])
      await t.rejects(
        Promise.resolve().then(() => ask[method]?.(table, { id: 1 }, {})),
        { code: /^ERR_(UNKNOWN_TABLE|OPTION)$/, hint: String },
        `${method} of what is no table`,
      )
})

t.test('an option of null is not taken for one that was left out, and no folder for one by a name that none can have', async (t) => {
  const pool = await createPool(t, server)
  const refused = { code: 'ERR_OPTION', hint: String }
  const central = { database: postgres(pool), subscribe: READY_MADE }
  const numbers = ['maxMessageBytes', 'maxDocumentBytes', 'handlerTimeoutMs', 'filterTimeoutMs', 'lanes', 'longPollMs', 'retainArchiveMs']
  const within = { retry: ['minMs', 'maxMs', 'perTurn'], limits: ['wrongTokens', 'lockOutMs', 'exchangesPerMinute', 'remembered'] }
  for (const option of [...numbers, ...Object.keys(within), 'validate', 'publish', 'pull'])
    t.throws(() => createCentral({ ...central, [option]: null } as never), refused, option)
  for (const [option, fields] of Object.entries(within))
    for (const field of fields) t.throws(() => createCentral({ ...central, [option]: { [field]: null } } as never), refused, field)

  const till = { location: 'BA01', register: 'POS1', database: sqlite(() => new Database(':memory:')), publish: { receipts: {} } }
  for (const option of ['retainMs', 'forgetAfterMs', 'subscribe', 'transfer'])
    t.throws(() => createRegister({ ...till, [option]: null } as never), refused, option)
  const link = { exchange: async () => new Uint8Array() }
  for (const option of ['everyMs', 'recordsPerRun', 'bytesPerRun', 'backoff'])
    t.throws(() => createRegister({ ...till, transfer: { type: 'push', link, [option]: null } } as never), refused, option)
  for (const option of ['recordsPerRun', 'bytesPerRun', 'maxMessageBytes'])
    t.throws(() => createRegister({ ...till, transfer: { type: 'pull', token: 'A'.repeat(43), [option]: null } } as never), refused, option)
  const box = { folder: '/nowhere', key: randomBytes(32).toString('base64url'), location: 'BA01', register: 'POS1' }
  for (const wrong of [{ lookMs: null }, { mostFiles: null }, { mostBytes: null }, { marker: null }, { folder: 'a\0b' }, { marker: 'a\0b' }])
    t.throws(() => fileMailbox({ ...box, ...wrong } as never), refused, JSON.stringify(wrong))
})
