import { execFileSync } from 'node:child_process'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import t, { type Test } from 'tap'
import { mirror, type TillsyncError } from '../../src/index.ts'
import type { CentralMailbox } from '../../src/ports.ts'
import type { Saying } from '../../src/transport/correspondence.ts'
import { centralFileMailbox, fileMailbox } from '../../src/transport/file.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { refused } from '../support/refused.ts'
import { openShop, type Shop, type ShopOptions, type Till, type TillOptions } from '../support/shop.ts'
import { Stick } from '../support/stick.ts'
import { CENTRAL_SCHEMA, TILL_SCHEMA } from '../support/tables.ts'
import { tinyDisk } from '../support/tiny-disk.ts'

t.setTimeout(240_000)
const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)

const NAME = { location: 'BA01', register: 'POS1' }
const ITEMS = 'CREATE TABLE items (item_no text PRIMARY KEY, name text)'

type Mailed = NonNullable<TillOptions['mailed']>

async function scene(t: Test, mailed: Partial<Mailed> = {}, options: ShopOptions = {}) {
  const stick = new Stick(t)
  const shop = await openShop(t, server, { mailboxes: [stick.central()], schema: CENTRAL_SCHEMA + ITEMS, publish: { items: {} }, ...options })
  const till = await shop.addTill('POS1', {
    schema: TILL_SCHEMA + ITEMS,
    subscribe: { items: mirror() },
    mailed: { mailbox: stick.mailbox(NAME), everyMs: 50, ...mailed },
  })
  return { stick, shop, till }
}

function sell(till: Till, from: number, through: number): void {
  for (let n = from; n <= through; n++) till.cashier.sellAnything(random, `R-${n}`)
}

async function stock(shop: Shop, many: number, name = 'Item'): Promise<void> {
  await shop.pool.query(
    `INSERT INTO items SELECT 'I' || lpad(n::text, 6, '0'), $2 || ' ' || n FROM generate_series(1, $1::int) n ON CONFLICT (item_no) DO UPDATE SET name = excluded.name`,
    [many, name],
  )
}

const countItems = (till: Till): number => till.db.prepare('SELECT count(*) FROM items').pluck().get() as number
const pendingOf = async (till: Till): Promise<number> => (await till.replica.status()).pending

/** Whether the till has said all that it has, and as many letters lie there as it has done that in; or it may write no more. */
async function isSaid(till: Till, letters: number): Promise<boolean> {
  const { head, pending, lastError } = await till.replica.status()
  if (lastError?.code === 'ERR_MAILBOX_FULL') return true
  const kept = till.db.prepare("SELECT value FROM sync_state WHERE key = 'sayings'").pluck().get() as string | undefined
  const sayings = (JSON.parse(kept ?? '[]') as readonly Saying[]).filter(({ isLost }) => !isLost)
  const isTold = pending === 0 || sayings.some(({ through }) => through?.entryNo === head.entryNo)
  return isTold && letters >= sayings.length
}

/** All that the till has is on the stick: nothing of it is written any more. */
async function written({ till, stick }: { till: Till; stick: Stick }, bad = 0): Promise<void> {
  await till.replica.seal()
  let before = -1
  await eventually(
    'all is on the stick',
    async () => {
      const now = stick.files('.up').length
      const isSame = now > 0 && now === before && stick.files('.down').length === bad && (await isSaid(till, now))
      before = now
      await new Promise((done) => setTimeout(done, 250))
      return isSame
    },
    30_000,
  )
}

/** Head office has settled all letters. */
async function read({ stick }: { stick: Stick }): Promise<void> {
  await eventually('all letters are settled', () => stick.files('.up').length === 0, 60_000)
}

t.test('a share: both ends are there, sales go up and items come down', async (t) => {
  const share = new Stick(t)
  const shop = await openShop(t, server, {
    mailboxes: [share.central({ folder: share.at('shop') })],
    schema: CENTRAL_SCHEMA + ITEMS,
    publish: { items: {} },
  })
  share.carry('shop')
  const till = await shop.addTill('POS1', {
    schema: TILL_SCHEMA + ITEMS,
    subscribe: { items: mirror() },
    mailed: { mailbox: share.mailbox(NAME), everyMs: 50 },
  })
  await shop.central.start()
  await stock(shop, 100)
  sell(till, 1, 60)
  const moved = await till.replica.synchronize()
  await shop.balances(t, till)
  t.equal(moved.sent, (await till.replica.status()).head.entryNo)
  t.equal(countItems(till), 100)
  t.same(share.files(), [], 'nothing stays behind')
})

t.test('a stick that is carried to and fro: the two are never there at the same time', async (t) => {
  const { stick, shop, till } = await scene(t)
  const said: string[] = []
  till.replica.on('offline', ({ error }) => said.push(error.code))
  till.replica.on('online', () => said.push('online'))
  await shop.central.start()
  await till.replica.start()
  await stock(shop, 20_000)
  sell(till, 1, 300)
  await eventually('no stick', () => said.length > 0)
  let visits = 0
  // On a busy machine a question may just miss the stick, or its answer.
  while (countItems(till) < 20_000 && visits < 8) {
    const more = 301 + 50 * visits++
    stick.carry('shop')
    await written({ till, stick })
    stick.carry(undefined)
    sell(till, more, more + 49)
    stick.carry('office')
    await read({ stick })
    stick.carry(undefined)
  }
  t.equal(countItems(till), 20_000, `items came down within ${visits} visits`)
  stick.carry('shop')
  await written({ till, stick })
  stick.carry('office')
  await read({ stick })
  stick.carry('shop')
  await eventually('the last answers', async () => (await pendingOf(till)) === 0)
  await shop.balances(t, till)
  t.same(said.slice(0, 3), ['ERR_LINK', 'online', 'ERR_LINK'], 'said when it goes and when it is back')
})

t.test('two sticks by turns, one of which is lost for ever', async (t) => {
  const { stick, shop, till } = await scene(t, { resend: { minMs: 300, maxMs: 300 } })
  await shop.central.start()
  await till.replica.start()
  await stock(shop, 10)
  sell(till, 1, 20)
  stick.carry('shop')
  await written({ till, stick })
  rmSync(stick.path, { recursive: true })
  sell(till, 21, 30)
  stick.carry('shop')
  await eventually('something is on the other one', async () => stick.files('.up').length > 0)
  await written({ till, stick })
  stick.carry('office')
  await read({ stick })
  stick.carry('shop')
  await eventually('all has come', async () => (await pendingOf(till)) === 0 && countItems(till) === 10)
  await shop.balances(t, till)
})

t.test('what lies on the stick is not written again, however long nobody comes for it, nor by a till that was restarted', async (t) => {
  const { stick, till } = await scene(t, { resend: { minMs: 50, maxMs: 50 } })
  sell(till, 1, 30)
  stick.carry('shop')
  await till.replica.start()
  await written({ till, stick })
  const files = stick.files()
  await new Promise((done) => setTimeout(done, 500))
  t.same(stick.files(), files)
  await till.replica.stop()
  const again = till.again({
    subscribe: { items: mirror() },
    mailed: { mailbox: stick.mailbox(NAME), everyMs: 50, resend: { minMs: 50, maxMs: 50 } },
  })
  await again.start()
  await new Promise((done) => setTimeout(done, 500))
  t.same(stick.files(), files)
  await again.stop()
})

t.test('files twice, in any order, of long ago, and lost: nothing is doubled, nothing stays away', async (t) => {
  const { stick, shop, till } = await scene(t, { recordsPerRun: 20, resend: { minMs: 200, maxMs: 200 } })
  await stock(shop, 15)
  sell(till, 1, 60)
  stick.carry('shop')
  await till.replica.start()
  await written({ till, stick })
  const old = join(dirname(stick.path), 'old')
  mkdirSync(old)
  const keep = () => {
    for (const path of stick.files()) copyFileSync(join(stick.path, path), join(old, path.replaceAll('/', '!')))
  }
  const putBack = () => {
    for (const path of readdirSync(old)) copyFileSync(join(old, path), join(stick.path, path.replaceAll('!', '/')))
  }
  keep()
  for (const path of stick.files('.up').filter((_, n) => n % 3 === 1)) rmSync(join(stick.path, path))
  stick.carry('office')
  await shop.central.start()
  await read({ stick })
  putBack()
  await read({ stick })
  keep()
  await stock(shop, 15, 'New')
  stick.carry('shop')
  await written({ till, stick }).catch(() => undefined)
  stick.carry('office')
  await read({ stick })
  stick.carry('shop')
  await eventually('all has come', async () => (await pendingOf(till)) === 0)
  await shop.balances(t, till)
  for (let n = 0; n < 3; n++) {
    putBack()
    await eventually('the old answers are settled', () => stick.files('.down').length === 0)
    stick.carry('office')
    await read({ stick })
    stick.carry('shop')
    await eventually('the new answers are settled', () => stick.files('.down').length === 0)
  }
  t.equal(till.db.prepare("SELECT count(*) FROM items WHERE name LIKE 'New%'").pluck().get(), 15, 'no old item came back')
  await shop.balances(t, till)
})

t.test('forged, swapped, reflected, damaged and foreign files, and those of another key, are told of once and left alone', async (t) => {
  const { stick, shop, till } = await scene(t, { recordsPerRun: 20 })
  const told: TillsyncError[] = []
  shop.central.on('refused', ({ error }) => told.push(error))
  sell(till, 1, 40)
  stick.carry('shop')
  await till.replica.start()
  await written({ till, stick })
  await till.replica.stop()
  const other = new Stick(t)
  const strange = stick.mailbox({ location: 'BA01', register: 'POS2' }, { key: other.key })
  await strange.send(Buffer.from('nobody knows my key'), { id: 'AAAAAAAAAAAA' })
  const ups = stick.files('.up').filter((path) => path.includes('POS1'))
  t.ok(ups.length > 6)
  const at = (n: number) => join(stick.path, ups[n] as string)
  const flip = (path: string, where: number) => {
    const bytes = readFileSync(path)
    bytes[where < 0 ? bytes.length + where : where] = (bytes.at(where) as number) ^ 1
    writeFileSync(path, bytes)
  }
  truncateSync(at(0), 100)
  flip(at(1), -30)
  flip(at(2), 60)
  copyFileSync(at(3), at(3).replace(/[0-9a-f]{18}\.up$/, 'ffffffffffffffffff.up'))
  copyFileSync(at(3), at(3).replace(/\.up$/, '.down'))
  writeFileSync(join(dirname(at(0)), 'holiday.jpg'), 'a picture')
  writeFileSync(join(dirname(at(0)), '.DS_Store'), '')
  writeFileSync(join(dirname(at(0)), '000000000000001-0123456789abcdef01.up'), '')
  const posTwo = dirname(at(0)).replace(
    /till-.*$/,
    stick
      .files('.up')
      .find((path) => path.includes('POS2'))
      ?.split('/')[0] as string,
  )
  copyFileSync(at(3), join(posTwo, (ups[3] as string).split('/')[1] as string))
  stick.carry('office')
  await shop.central.start()
  await eventually('all is told', () => told.length === 8)
  await eventually('the rest is settled', () => stick.files('.up').filter((path) => path.includes('POS1')).length === 5)
  await new Promise((done) => setTimeout(done, 200))
  t.same(
    told.map(({ code }) => code).toSorted(),
    ['ERR_CREDENTIAL', 'ERR_FOREIGN_REGISTER', 'ERR_MESSAGE', 'ERR_MESSAGE', 'ERR_MESSAGE', 'ERR_MESSAGE', 'ERR_MESSAGE', 'ERR_MESSAGE'],
    'each once',
  )
  t.ok(told.every(({ hint, context }) => hint !== undefined && typeof context.file === 'string'))
  t.ok(existsSync(join(dirname(at(0)).replace(stick.at('shop'), stick.at('office')), 'holiday.jpg')))
  const here: TillsyncError[] = []
  const again = till.again({
    subscribe: { items: mirror() },
    mailed: { mailbox: stick.mailbox(NAME), everyMs: 50, resend: { minMs: 100, maxMs: 100 } },
  })
  again.on('refused', ({ error }) => here.push(error))
  stick.carry('shop')
  await again.start()
  await eventually('the reflected one is told of', () => here.some(({ message }) => message.includes('other way') || message.includes('renamed')))
  for (let n = 0; n < 6 && (await again.status()).pending > 0; n++) {
    await written({ till: { ...till, replica: again }, stick }, 1)
    stick.carry('office')
    await eventually('settled', () => stick.files('.up').filter((path) => path.includes('POS1')).length === 5)
    stick.carry('shop')
    await eventually('answered', () => stick.files('.down').length <= 1)
    await new Promise((done) => setTimeout(done, 200))
  }
  t.equal((await again.status()).pending, 0)
  await shop.balances(t, till)
})

t.test('folders, links and pipes by the name of letters or registers hold nothing up, and are not followed', async (t) => {
  const { stick, shop, till } = await scene(t)
  const told: TillsyncError[] = []
  shop.central.on('refused', ({ error }) => told.push(error))
  shop.central.on('failed', ({ error }) => told.push(error))
  sell(till, 1, 5)
  stick.carry('shop')
  await till.replica.start()
  await written({ till, stick })
  await till.replica.stop()
  const own = dirname(join(stick.path, stick.files('.up')[0] as string))
  mkdirSync(join(own, '000000000000001-000000000000000001.up'))
  symlinkSync('/dev/zero', join(own, '000000000000002-000000000000000002.up'))
  execFileSync('mkfifo', [join(own, '000000000000003-000000000000000003.up')])
  writeFileSync(join(stick.path, 'till-BA01-POS7-0123456789ab'), 'a file by the name of a folder')
  symlinkSync('/etc', join(stick.path, 'till-BA01-POS8-0123456789ab'))
  stick.carry('office')
  await shop.central.start()
  await eventually('the rest is settled', () => stick.files('.up').length === 3)
  await eventually('each is told of', () => told.length === 3)
  t.ok(told.every(({ code }) => code === 'ERR_MESSAGE'))
  await shop.balances(t, till)
})

t.test('a file that somebody is still copying there is a letter as soon as it is whole', async (t) => {
  const { stick, shop, till } = await scene(t)
  const told: TillsyncError[] = []
  shop.central.on('refused', ({ error }) => told.push(error))
  sell(till, 1, 5)
  stick.carry('shop')
  await till.replica.start()
  await written({ till, stick })
  await till.replica.stop()
  const path = stick.files('.up').at(-1) as string
  const whole = readFileSync(join(stick.path, path))
  writeFileSync(join(stick.path, path), whole.subarray(0, 200))
  stick.carry('office')
  await shop.central.start()
  await new Promise((done) => setTimeout(done, 300))
  writeFileSync(join(stick.path, path), whole)
  await read({ stick })
  t.same(told, [])
  await shop.balances(t, till)
})

t.test('a folder with as many letters as may lie there is full, and goes on when they are fetched', async (t) => {
  const stick = new Stick(t)
  const { shop, till } = await scene(t, { mailbox: stick.mailbox(NAME, { mostFiles: 3 }), recordsPerRun: 20 }, { mailboxes: [stick.central()] })
  const told: string[] = []
  till.replica.on('failed', ({ error }) => told.push(error.code))
  sell(till, 1, 40)
  stick.carry('shop')
  await till.replica.start()
  await eventually('full', () => told.includes('ERR_MAILBOX_FULL'))
  t.equal(stick.files('.up').length, 3)
  t.equal((await till.replica.status()).lastError?.code, 'ERR_MAILBOX_FULL')
  await shop.central.start()
  let visits = 0
  for (; visits < 40 && (await pendingOf(till)) > 0; visits++) {
    stick.carry('office')
    await read({ stick })
    stick.carry('shop')
    await eventually('answered', () => stick.files('.down').length === 0)
    await written({ till, stick }).catch(() => undefined)
  }
  t.ok(visits > 3, `${visits} visits`)
  await shop.balances(t, till)
})

t.test('a stick without room, and one that is write-protected: coded, tried again, nothing lost', async (t) => {
  const disk = await tinyDisk(t, 400_000)
  if (disk === undefined) return
  const stick = new Stick(t)
  const { till, shop } = await scene(
    t,
    { mailbox: stick.mailbox(NAME, { folder: disk }), recordsPerRun: 100 },
    { mailboxes: [stick.central({ folder: disk })] },
  )
  const told: string[] = []
  till.replica.on('failed', ({ error }) => told.push(error.code))
  writeFileSync(join(disk, 'holiday.mov'), Buffer.alloc(370_000, 1))
  sell(till, 1, 400)
  await till.replica.start()
  await eventually('full', () => told.includes('ERR_MAILBOX_FULL'))
  // It is tried again and again: between two tries nothing of it is there.
  await eventually('no half file stays', () => !readdirSync(disk, { recursive: true, encoding: 'utf8' }).some((path) => path.endsWith('.part')))
  rmSync(join(disk, 'holiday.mov'))
  await shop.central.start()
  await eventually('all has come', async () => (await pendingOf(till)) === 0, 30_000)
  await shop.balances(t, till)
  const protect = (how: string) => execFileSync('mount', ['-o', `remount,${how}`, disk])
  await shop.central.stop()
  // Of what the others sell, not all is published.
  const sellOne = (n: number) => till.cashier.sell(`R-${n}`, [{ item: 'A', quantity: '1', amount: '1' }])
  sellOne(401)
  const letters = () => readdirSync(disk, { recursive: true, encoding: 'utf8' }).filter((path) => path.endsWith('.up')).length
  await eventually('what was sold lies there', async () => letters() > 0 && (await isSaid(till, letters())) && (await pendingOf(till)) > 0)
  protect('ro')
  t.teardown(() => protect('rw'))
  sellOne(402)
  await eventually('it is said', () => told.includes('ERR_CREDENTIAL'))
  t.match(await till.replica.status(), { lastError: { code: 'ERR_CREDENTIAL', hint: /write/ } })
  const idle = shop.again()
  const failed: string[] = []
  idle.on('failed', ({ error }) => failed.push(error.code))
  await idle.start()
  await eventually('it is said that no answer can be written', () => failed.length > 0)
  await new Promise((done) => setTimeout(done, 500))
  const { length } = failed
  await new Promise((done) => setTimeout(done, 500))
  t.equal(failed.length, length, 'once for a letter, not again and again')
  await idle.stop()
  protect('rw')
  sellOne(403)
  const again = shop.again()
  await again.start()
  await eventually('all has come', async () => (await pendingOf(till)) === 0, 30_000)
  await shop.balances(t, till)
})

t.test('a stick that is pulled out before a settled letter is removed: it is when the stick is back', async (t) => {
  const stick = new Stick(t)
  const office = stick.central()
  let isPulled = false
  const mailbox: CentralMailbox = {
    maxBytes: office.maxBytes,
    receive: (options) => office.receive(options),
    async send(to, message) {
      await office.send(to, message)
      if (!isPulled) stick.carry(undefined)
      isPulled = true
    },
  }
  const shop = await openShop(t, server, { mailboxes: [mailbox] })
  const till = await shop.addTill('POS1', { mailed: { mailbox: stick.mailbox(NAME), everyMs: 50 } })
  sell(till, 1, 3)
  stick.carry('shop')
  await till.replica.start()
  await written({ till, stick })
  await till.replica.stop()
  const failed: string[] = []
  shop.central.on('failed', ({ error }) => failed.push(error.code))
  stick.carry('office')
  await shop.central.start()
  await eventually('it is away', () => failed.includes('ERR_LINK'))
  t.not(stick.files('.up').length, 0)
  stick.carry('office')
  await read({ stick })
  await shop.balances(t, till)
})

t.test('a letter that was damaged where it lies is written again', async (t) => {
  const { stick, shop, till } = await scene(t, { resend: { minMs: 100, maxMs: 100 } })
  sell(till, 1, 3)
  stick.carry('shop')
  await till.replica.start()
  await written({ till, stick })
  const before = stick.files('.up')
  for (const path of before) truncateSync(join(stick.path, path), 20)
  await eventually('it is written again', () => stick.files('.up').length > before.length)
  await till.replica.stop()
  stick.carry('office')
  await shop.central.start()
  await eventually('the rest is settled', () => stick.files('.up').length === before.length)
  await shop.balances(t, till)
})

t.test('an empty place where a stick is mounted is not taken for one', async (t) => {
  const { stick, till, shop } = await scene(t)
  const marked = till.again({ subscribe: { items: mirror() }, mailed: { mailbox: stick.mailbox(NAME, { marker: 'tillsync.txt' }), everyMs: 50 } })
  await till.replica.stop()
  const said: string[] = []
  marked.on('offline', ({ error }) => said.push(error.code))
  mkdirSync(stick.at('shop'))
  sell(till, 1, 3)
  await marked.start()
  await eventually('it is said', () => said.length > 0)
  t.same(stick.files(), [])
  writeFileSync(join(stick.at('shop'), 'tillsync.txt'), '')
  await written({ till: { ...till, replica: marked }, stick })
  await marked.stop()
  renameSync(stick.at('shop'), stick.at('office'))
  await shop.central.start()
  await read({ stick })
  await shop.balances(t, till)
})

t.test('another key at central, or none to be had: told of, and nothing is lost when it is put right', async (t) => {
  const stick = new Stick(t)
  const [other, away] = [new Stick(t).key, new Error('The vault is away')]
  let asked = 0
  let key = (): string | Promise<string> => (++asked % 2 === 0 ? other : Promise.reject(away))
  const { till, shop } = await scene(t, { mailbox: stick.mailbox(NAME) }, { mailboxes: [stick.central({ keys: () => key() })] })
  const told: string[] = []
  shop.central.on('refused', ({ error, register }) => told.push(`${error.code} ${register?.register}`))
  sell(till, 1, 3)
  stick.carry('shop')
  await till.replica.start()
  await written({ till, stick })
  await till.replica.stop()
  const files = stick.files('.up')
  stick.carry('office')
  await shop.central.start()
  await eventually('told', () => told.length === files.length)
  t.ok(told.every((one) => one === 'ERR_CREDENTIAL POS1'))
  t.same(stick.files('.up'), files)
  key = () => stick.key
  const again = shop.again()
  await shop.central.stop()
  await again.start()
  await read({ stick })
  await shop.balances(t, till)
})

t.test('options that make no sense are refused', async (t) => {
  const key = Buffer.alloc(32, 1)
  const folder = '/tmp'
  for (const [what, options] of [
    ['folder', { ...NAME, key }],
    ['key', { ...NAME, folder }],
    ['key', { ...NAME, folder, key: 'too short' }],
    ['key', { ...NAME, folder, key: Buffer.alloc(16) }],
    ['lookMs', { ...NAME, folder, key, lookMs: 1 }],
    ['marker', { ...NAME, folder, key, marker: '' }],
    ['mostFiles', { ...NAME, folder, key, mostFiles: 0 }],
    ['location', { register: 'POS1', folder, key }],
    ['file', { ...NAME, folder, key, file: 'x' }],
  ] as const) {
    const error = await refused(t, () => fileMailbox(options as never), 'ERR_OPTION', what)
    t.equal(error?.context.option, what)
    t.notMatch(error?.message, 'too short', 'no key is shown')
  }
  await refused(t, () => centralFileMailbox({ folder } as never), 'ERR_OPTION')
  await refused(t, () => centralFileMailbox(undefined as never), 'ERR_OPTION')
})
