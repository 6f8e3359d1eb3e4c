import { once } from 'node:events'
import { setTimeout as pause } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { systemClock } from '../../src/clock.ts'
import { type CentralMailbox, type Link, type Mailbox, mirror } from '../../src/index.ts'
import type { RegisterName } from '../../src/model.ts'
import type { ReceiveOptions } from '../../src/ports.ts'
import { decodeMessage } from '../../src/transport/codec.ts'
import { eventually } from '../support/eventually.ts'
import { PostOffice } from '../support/post-office.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { refused } from '../support/refused.ts'
import { openShop, type Shop, type ShopOptions, type Till, type TillOptions } from '../support/shop.ts'
import { CENTRAL_SCHEMA, TILL_SCHEMA } from '../support/tables.ts'
import { Machine } from '../support/world.ts'

t.setTimeout(240_000)
const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)

const MAX_BYTES = 8_388_608
const ITEMS = 'CREATE TABLE items (item_no text PRIMARY KEY, name text)'
const line = (item: string, quantity = '1') => ({ item, quantity, amount: '1' })

interface Scene {
  readonly office: PostOffice
  readonly shop: Shop
  readonly till: Till
}

async function scene(
  t: Test,
  options: Partial<NonNullable<TillOptions['mailed']>> = {},
  central: ShopOptions | ((office: PostOffice) => ShopOptions) = {},
): Promise<Scene> {
  const office = new PostOffice()
  const shop = await openShop(t, server, {
    mailboxes: [office.central()],
    schema: CENTRAL_SCHEMA + ITEMS,
    publish: { items: {} },
    ...(typeof central === 'function' ? central(office) : central),
  })
  const till = await shop.addTill('POS1', {
    schema: TILL_SCHEMA + ITEMS,
    subscribe: { items: mirror() },
    mailed: mailedBy(office, { location: 'BA01', register: 'POS1' }, options),
  })
  return { office, shop, till }
}

function mailedBy(
  office: PostOffice,
  name: RegisterName,
  options: Partial<NonNullable<TillOptions['mailed']>> = {},
): NonNullable<TillOptions['mailed']> {
  return { mailbox: office.mailbox(name), everyMs: 50, recordsPerRun: 20, answerMs: 10_000, resend: { minMs: 200, maxMs: 400 }, ...options }
}

function sell(till: Till, from: number, through: number): void {
  for (let n = from; n <= through; n++) till.cashier.sellAnything(random, `R-${n}`)
}

/** A central whose letters take so long. */
function slowly(ms: number): (office: PostOffice) => ShopOptions {
  return (office) => {
    const inner = office.central()
    return {
      mailboxes: [
        {
          ...inner,
          async send(...letter) {
            await pause(ms)
            return inner.send(...letter)
          },
        },
      ],
    }
  }
}

const itemsOf = (till: Pick<Till, 'db'>) => till.db.prepare('SELECT item_no, name FROM items ORDER BY 1').all()

t.test('sales go up and items come down by mailbox, by hand and by themselves', async (t) => {
  const { shop, till, office } = await scene(t, { resend: { minMs: 60_000, maxMs: 60_000 } })
  await shop.central.start()
  await shop.pool.query("INSERT INTO items SELECT 'I' || lpad(n::text, 3, '0'), 'Item ' || n FROM generate_series(1, 100) n")
  sell(till, 1, 60)
  const progress: unknown[] = []
  const moved = await till.replica.synchronize({ onProgress: (one) => progress.push(one) })
  await shop.balances(t, till)
  const { head, standing, pending, lastContact, lastError } = await till.replica.status()
  t.same(standing, head)
  t.match({ pending, lastError }, { pending: 0, lastError: undefined })
  t.ok(lastContact)
  t.equal(moved.sent, head.entryNo)
  t.match(progress.at(-1), { sent: head.entryNo, pending: 0 })
  t.equal(itemsOf(till).length, 100)
  t.same([office.lying('up'), office.lying('down')], [0, 0], 'every letter is acknowledged')
  await till.replica.start()
  sell(till, 61, 70)
  await shop.pool.query("UPDATE items SET name = 'New' WHERE item_no = 'I007'")
  await eventually(
    'what was sold and what was changed arrives',
    async () => (await till.replica.status()).pending === 0 && (itemsOf(till) as { name: string }[]).some(({ name }) => name === 'New'),
  )
  await shop.balances(t, till)
})

t.test('who synchronizes by hand comes to an end, though each answer takes longer than the pause between letters', async (t) => {
  const { shop, till, office } = await scene(t, { everyMs: 10, resend: { minMs: 60_000, maxMs: 60_000 } }, slowly(50))
  await shop.central.start()
  const signal = AbortSignal.timeout(30_000)
  sell(till, 1, 10)
  await till.replica.synchronize({ signal })
  await shop.balances(t, till)
  await till.replica.start()
  sell(till, 11, 20)
  await till.replica.synchronize({ signal })
  await shop.balances(t, till)
  t.notOk(signal.aborted, `${office.sent.get('up BA01/POS1')?.length} letters`)
})

t.test('answers that take longer than is waited for do not have all sent again and again', async (t) => {
  const { shop, till, office } = await scene(t, { recordsPerRun: 10, resend: { minMs: 20, maxMs: 60_000 } }, slowly(100))
  await shop.central.start()
  sell(till, 1, 60)
  await till.replica.synchronize({ signal: AbortSignal.timeout(60_000) })
  await shop.balances(t, till)
  const batches = new Set<number>()
  const letters = office.sent.get('up BA01/POS1') ?? []
  for (const letter of letters) batches.add((await decodeMessage(letter, MAX_BYTES)).batch?.through.entryNo ?? 0)
  t.ok(letters.length < 2 * batches.size, `${letters.length} letters for ${batches.size - 1} batches`)
})

t.test('batches go out one behind the other without a word of central, and no more than may be unanswered', async (t) => {
  const { shop, till, office } = await scene(t, { unanswered: 5, resend: { minMs: 60_000, maxMs: 60_000 } })
  sell(till, 1, 60)
  await till.replica.start()
  await eventually('what was sent arrives', async () => office.lying('up') === 5)
  t.equal((await till.replica.status()).standing, undefined)
  await shop.central.start()
  await eventually(
    'what was sent arrives',
    async () => (await till.replica.status()).standing?.entryNo === (await till.replica.status()).head.entryNo,
  )
  await shop.balances(t, till)
  const letters = office.sent.get('up BA01/POS1') ?? []
  t.ok(letters.length < 60, `nothing was sent twice: ${letters.length} letters`)
})

t.test('what is lost is sent again, what comes twice or in another order changes nothing', async (t) => {
  const { shop, till, office } = await scene(t)
  const held: { message: Uint8Array; box: string }[] = []
  office.handle = (message, { to }) => {
    const dice = random.int(1, 6)
    if (dice === 1) return []
    if (dice === 2) return [message, message]
    if (dice === 3) {
      held.push({ message, box: to })
      return []
    }
    const late = random.chance(0.5) ? held.filter(({ box }) => box === to) : []
    for (const one of late) held.splice(held.indexOf(one), 1)
    return [message, ...late.map(({ message }) => message)]
  }
  await shop.central.start()
  await shop.pool.query("INSERT INTO items SELECT 'I' || lpad(n::text, 3, '0'), 'Item ' || n FROM generate_series(1, 100) n")
  await till.replica.start()
  for (let n = 0; n < 10; n++) {
    sell(till, n * 10 + 1, n * 10 + 10)
    await till.replica.seal()
  }
  await eventually('what was sent arrives', async () => (await till.replica.status()).pending === 0 && itemsOf(till).length === 100, 30_000)
  await shop.balances(t, till)
  t.equal((await shop.central.registers.list())[0]?.location, 'BA01')
})

t.test('a clock that is put back by a year does not keep what was lost from being sent again', async (t) => {
  let ahead = 0
  const office = new PostOffice()
  const shop = await openShop(t, server, { mailboxes: [office.central()] })
  const till = await shop.addTill('POS1', {
    clock: { ...systemClock, now: () => systemClock.now() + ahead },
    mailed: mailedBy(office, { location: 'BA01', register: 'POS1' }),
  })
  await shop.central.start()
  office.handle = () => []
  sell(till, 1, 5)
  await till.replica.seal()
  await till.replica.start()
  await eventually('it is sent, and lost', () => (office.sent.get('up BA01/POS1')?.length ?? 0) > 0)
  ahead = -365 * 86_400_000
  office.handle = (message) => [message]
  await eventually('what was sent arrives', async () => (await till.replica.status()).pending === 0)
  await shop.balances(t, till)
})

t.test('an old snapshot that comes again a month later brings nothing back', async (t) => {
  const { shop, till, office } = await scene(t)
  await shop.central.start()
  await shop.pool.query("INSERT INTO items VALUES ('I1', 'old')")
  sell(till, 1, 5)
  await till.replica.synchronize()
  const before = [...(office.sent.get('down BA01/POS1') ?? [])]
  const up = [...(office.sent.get('up BA01/POS1') ?? [])]
  await shop.pool.query("UPDATE items SET name = 'new'; INSERT INTO items VALUES ('I2', 'two')")
  sell(till, 6, 10)
  await till.replica.synchronize()
  t.same(itemsOf(till), [
    { item_no: 'I1', name: 'new' },
    { item_no: 'I2', name: 'two' },
  ])
  const { standing } = await till.replica.status()
  const applied: unknown[] = []
  till.replica.on('applied', (event) => applied.push(event))
  for (const message of before) office.put('down BA01/POS1', message)
  for (const message of up) office.put('up BA01/POS1', message)
  await till.replica.synchronize()
  await till.replica.synchronize()
  t.same(itemsOf(till), [
    { item_no: 'I1', name: 'new' },
    { item_no: 'I2', name: 'two' },
  ])
  t.same(applied, [], 'not for a moment')
  t.same((await till.replica.status()).standing, standing)
  await shop.balances(t, till)
})

t.test('answers that come after a restart of the till are still answers', async (t) => {
  const { shop, till, office } = await scene(t, { resend: { minMs: 60_000, maxMs: 60_000 }, recordsPerRun: 500 })
  await shop.pool.query("INSERT INTO items VALUES ('I1', 'one')")
  sell(till, 1, 5)
  await till.replica.seal()
  await till.replica.start()
  await eventually('what was sent arrives', async () => office.lying('up') > 0)
  await till.replica.stop()
  await shop.central.start()
  await eventually('what was sent arrives', async () => office.lying('up') === 0 && office.lying('down') > 0)
  await shop.central.stop()
  const again = till.again({
    mailed: mailedBy(office, till, { resend: { minMs: 60_000, maxMs: 60_000 }, recordsPerRun: 500 }),
    subscribe: { items: mirror() },
  })
  const letters = (office.sent.get('up BA01/POS1') ?? []).length
  await again.start()
  await eventually('what was sent arrives', async () => itemsOf(till).length === 1)
  await eventually('what was sent arrives', async () => (await again.status()).pending === 0)
  t.ok((office.sent.get('up BA01/POS1') ?? []).length <= letters + 3, 'it goes on from there')
  await shop.balances(t, till)
})

t.test('where nobody answers, synchronize() says so after a while, and nothing is lost', async (t) => {
  const { shop, till, office } = await scene(t, { answerMs: 200 })
  sell(till, 1, 5)
  const error = await till.replica.synchronize().catch((error) => error)
  t.match(error, { code: 'ERR_UNANSWERED', retryable: true, context: { pending: Number } })
  const ending = AbortSignal.timeout(50)
  t.match(await till.replica.synchronize({ signal: ending }).catch((error) => error), { code: 'ERR_ABORTED' })
  await shop.central.start()
  await eventually('what was sent arrives', async () => office.lying('up') === 0)
  const isDone = (error?: { readonly code: string }) => error === undefined || (error.code === 'ERR_UNANSWERED' ? false : Promise.reject(error))
  await eventually('all is settled', () => till.replica.synchronize().then(() => isDone(), isDone))
  await shop.balances(t, till)
})

t.test('a box that is away or full is said once, and tried again', async (t) => {
  const { shop, till, office } = await scene(t)
  const events: string[] = []
  till.replica.on('offline', ({ error }) => events.push(`offline ${error.code}`))
  till.replica.on('online', () => events.push('online'))
  office.away = true
  sell(till, 1, 30)
  t.match(await till.replica.synchronize().catch((error) => error), { code: 'ERR_LINK', retryable: true })
  await till.replica.start()
  await eventually('what was sent arrives', async () => (await till.replica.status()).lastError?.code === 'ERR_LINK')
  office.away = false
  await eventually('what was sent arrives', async () => events.includes('online'))
  t.same(events, ['offline ERR_LINK', 'online'])
  office.empty('up', till)
  office.room = 2
  const full: string[] = []
  till.replica.on('failed', ({ error }) => full.push(error.code))
  sell(till, 31, 90)
  await eventually('what was sent arrives', async () => full.includes('ERR_MAILBOX_FULL'))
  t.equal(office.lying('up'), 2)
  await shop.central.start()
  await eventually('what was sent arrives', async () => (await till.replica.status()).pending === 0, 20_000)
  await shop.balances(t, till)
})

t.test('who is not known, or speaks for another, is answered so, and what is nonsense holds nothing up', async (t) => {
  const { shop, till, office } = await scene(t)
  const told: { code: string; register: string | undefined }[] = []
  shop.central.on('refused', ({ error, register }) => told.push({ code: error.code, register: register?.register }))
  await shop.central.start()
  sell(till, 1, 5)
  await till.replica.synchronize()
  const [first] = office.sent.get('up BA01/POS1') ?? []
  office.put('up BA01/POS9', first as Uint8Array)
  await shop.central.registers.add({ location: 'BA01', register: 'POS2' })
  office.put('up BA01/POS2', first as Uint8Array)
  office.put('up BA01/POS1', Buffer.from('nonsense'))
  await eventually('what was sent arrives', async () => office.lying('up') === 0)
  t.same(
    told.toSorted((a, b) => a.code.localeCompare(b.code)),
    [
      { code: 'ERR_CREDENTIAL', register: 'POS9' },
      { code: 'ERR_FOREIGN_REGISTER', register: 'POS2' },
      { code: 'ERR_MESSAGE', register: 'POS1' },
    ],
  )
  office.put('down BA01/POS1', Buffer.from('nonsense'))
  office.put('down BA01/POS1', first as Uint8Array)
  sell(till, 6, 9)
  await till.replica.start()
  await eventually('what was sent arrives', async () => (await till.replica.status()).pending === 0 && office.lying('down', till) === 0)
  await shop.balances(t, till)
})

t.test('a till restored from a backup goes on in a new epoch: nothing doubled, nothing lost', async (t) => {
  const { shop, till, office } = await scene(t)
  await shop.central.start()
  const machine = new Machine(t, {
    ...till,
    again: (options) => till.again({ mailed: mailedBy(office, till), subscribe: { items: mirror() }, ...options }),
  })
  for (let n = 1; n <= 10; n++) machine.cashier.sell(`R-${n}`, [line('OLD')])
  await machine.replica.synchronize()
  const backup = machine.backup()
  machine.cashier.sell('R-lost', [line('LOST', '3')])
  await machine.replica.synchronize()
  await machine.restore(backup)
  machine.cashier.sell('R-new', [line('NEW', '5')])
  await machine.replica.synchronize()
  t.equal((await machine.replica.status()).pending, 0)
  t.equal(await shop.stock('LOST'), -3)
  t.equal(await shop.stock('NEW'), -5)
  t.equal(await shop.stock('OLD'), -10)
  t.equal((await shop.central.orphans.list()).length, 1)
})

t.test('two workers receive from the same mailbox', async (t) => {
  const { shop, till } = await scene(t)
  await shop.central.start()
  const other = shop.again()
  await other.start()
  sell(till, 1, 100)
  await till.replica.synchronize()
  await shop.balances(t, till)
  t.equal((await till.replica.status()).pending, 0)
})

/** What carries letters where a share hangs: from `hang` until `wake` nothing that is asked of it returns. */
class Share {
  /** What hangs. */
  hung = 0
  private hanging: PromiseWithResolvers<void> | undefined

  get isHanging(): boolean {
    return this.hanging !== undefined
  }

  hang(): void {
    this.hanging = Promise.withResolvers()
  }

  wake(): void {
    this.hanging?.resolve()
    this.hanging = undefined
    this.hung = 0
  }

  of<T extends CentralMailbox | Mailbox>(inner: T): T {
    const passed = () => this.passed()
    return {
      ...inner,
      async send(...letter: Parameters<T['send']>) {
        await passed()
        return (inner.send as (...letter: unknown[]) => Promise<void>)(...letter)
      },
      async *receive({ signal }: ReceiveOptions) {
        while (!signal.aborted) {
          await passed()
          const looking = new AbortController()
          const timer = setTimeout(() => looking.abort(), 20)
          for await (const letter of inner.receive({ signal: looking.signal })) {
            const { acknowledge } = letter
            yield { ...letter, acknowledge: () => passed().then(acknowledge) }
          }
          clearTimeout(timer)
        }
      },
      close: passed,
    } as T
  }

  async passed(): Promise<void> {
    if (this.hanging === undefined) return
    this.hung++
    await this.hanging.promise
  }
}

t.test('a mailbox that hangs holds up no stop, nobody who has ended his wait, and no other mailbox', async (t) => {
  const [share, office] = [new Share(), new PostOffice()]
  const well = new PostOffice()
  const shop = await openShop(t, server, { mailboxes: [share.of(office.central()), well.central()], lanes: 1 })
  const names = ['POS1', 'POS2'].map((register) => ({ location: 'BA01', register })) as [RegisterName, RegisterName]
  const till = await shop.addTill('POS1', { mailed: { ...mailedBy(office, names[0]), mailbox: share.of(office.mailbox(names[0])) } })
  const other = await shop.addTill('POS2', { mailed: mailedBy(well, names[1]) })
  await shop.central.start()
  await till.replica.start()
  sell(till, 1, 5)
  await eventually('letters are on their way', () => office.sent.size > 0)
  share.hang()
  sell(till, 6, 9)
  await eventually('both ends hang', () => share.hung >= 2)
  sell(other, 1, 5)
  await other.replica.synchronize()
  await t.rejects(till.replica.synchronize({ signal: AbortSignal.timeout(50) }), { code: 'ERR_ABORTED' })
  await Promise.all([till.replica.stop(), shop.central.stop()])
  share.wake()
  await shop.central.start()
  await till.replica.synchronize()
  await shop.balances(t, till)
  await shop.balances(t, other)
})

t.test('what hangs for long counts as away, be it a share or a link, and sales go on when it does not', async (t) => {
  const [share, office] = [new Share(), new PostOffice()]
  const { setTimeout: timeout } = globalThis
  t.teardown(() => Object.assign(globalThis, { setTimeout: timeout }))
  const sooner = (run: () => void, ms?: number) => timeout(run, ms !== undefined && ms >= 900_000 && share.isHanging ? 200 : ms)
  Object.assign(globalThis, { setTimeout: sooner })
  const name = { location: 'BA01', register: 'POS1' }
  const shop = await openShop(t, server, { mailboxes: [office.central()] })
  await shop.central.start()
  const mailbox = share.of(office.mailbox(name))
  let sends = 0
  const send: Mailbox['send'] = (...letter) => {
    sends++
    return mailbox.send(...letter)
  }
  const mailed = { ...mailedBy(office, name), mailbox: { ...mailbox, send } }
  const linked = (inner: Link): Link => ({ ...inner, exchange: async (...given) => share.passed().then(() => inner.exchange(...given)) })
  for (const till of [await shop.addTill('POS1', { mailed }), await shop.addTill('POS2', { link: linked })]) {
    const said: string[] = []
    till.replica.on('offline', ({ error }) => said.push(error.code))
    sell(till, 1, 5)
    share.hang()
    await t.rejects(till.replica.synchronize(), { code: 'ERR_LINK', retryable: true, hint: /share/ })
    const before = sends
    await t.rejects(till.replica.synchronize(), { code: 'ERR_LINK', retryable: true })
    t.equal(sends, before, 'a share that hangs is asked nothing more')
    t.same(said, ['ERR_LINK'], 'it is said once')
    share.wake()
    await till.replica.synchronize()
    await shop.balances(t, till)
  }
})

t.test('a letter that comes with a stop is given back', async (t) => {
  const released: string[] = []
  const mailbox: CentralMailbox = {
    async send() {},
    async *receive({ signal }) {
      await once(signal, 'abort')
      const letter = { message: new Uint8Array(), from: { location: 'BA01', register: 'POS1' }, acknowledge: async () => undefined }
      yield { ...letter, release: async () => void released.push('released') }
    },
  }
  const { central } = await openShop(t, server, { mailboxes: [mailbox] })
  await central.start()
  await central.stop()
  t.same(released, ['released'])
})

t.test('options that make no sense are refused', async (t) => {
  const { shop, office } = await scene(t)
  const name = { location: 'BA01', register: 'POS5' }
  const mailbox = office.mailbox(name)
  for (const [mailed, what] of [
    [{ mailbox: {} }, 'transfer.mailbox'],
    [{ mailbox, link: { exchange: async () => new Uint8Array() } }, 'transfer.link'],
    [{ mailbox, unanswered: 0 }, 'transfer.unanswered'],
    [{ mailbox, answerMs: 1 }, 'transfer.answerMs'],
    [{ mailbox, resend: { minMs: 100, maxMs: 50 } }, 'transfer.resend.maxMs'],
    [{ mailbox, resend: { ms: 100 } }, 'ms'],
    [{ mailbox: { ...mailbox, maxBytes: 100 } }, 'transfer.mailbox.maxBytes'],
    [{ mailbox: { ...mailbox, isVisited: 'yes' } }, 'transfer.mailbox.isVisited'],
    [{ mailbox: { ...mailbox, unread: new Set() } }, 'transfer.mailbox.unread'],
    [{ mailbox: { ...mailbox, close: true } }, 'transfer.mailbox.close'],
    [{ mailbox, waitMs: 3 }, 'waitMs'],
  ] as const) {
    const error = await refused(t, () => shop.addTill(`POS-${what}`, { mailed: mailed as never }), 'ERR_OPTION', what)
    t.equal(error?.context.option, what)
  }
  await refused(t, () => openShop(t, server, { mailboxes: [{}] as never }), 'ERR_OPTION')
  await refused(t, () => openShop(t, server, { mailboxes: [{ ...office.central(), close: true }] as never }), 'ERR_OPTION')
  for (const waitMs of ['50', -1, Number.POSITIVE_INFINITY]) {
    const link = (inner: Link): Link => ({ ...inner, waitMs: waitMs as number })
    t.equal((await refused(t, () => shop.addTill(`POS-${waitMs}`, { link }), 'ERR_OPTION'))?.context.option, 'transfer.link.waitMs')
  }
})
