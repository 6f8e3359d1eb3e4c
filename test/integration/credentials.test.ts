import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import type { RegisterName, TillsyncError } from '../../src/index.ts'
import { httpLink } from '../../src/transport/http.ts'
import { ScriptedClock } from '../support/clock.ts'
import { eventually } from '../support/eventually.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { refused } from '../support/refused.ts'
import { randomLine } from '../support/sales.ts'
import { openShop, type Shop, SUBSCRIBE, type Till } from '../support/shop.ts'
import { message, post } from '../support/wire.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const random = new Random(seed)
const DAY_MS = 24 * 3_600_000

/** Whether central takes an exchange with this token. */
async function isValid(shop: Shop, till: RegisterName, token: string): Promise<boolean> {
  const { status, code } = await post(shop.url, token, await message(till))
  if (status === 200) return true
  if (status === 401 && code === 'ERR_CREDENTIAL') return false
  throw new Error(`${status} ${code}`)
}

async function areValid(shop: Shop, till: RegisterName, tokens: readonly string[]): Promise<boolean[]> {
  const all: boolean[] = []
  for (const token of tokens) all.push(await isValid(shop, till, token))
  return all
}

function sell(till: Till, from: number, through: number): void {
  for (let n = from; n <= through; n++) till.cashier.sell(`R-${n}`, [randomLine(random)])
}

t.test('a token is rotated while batches are being sent: nothing is lost, nothing refused', async (t) => {
  const shop = await openShop(t, server)
  const refusals: TillsyncError[] = []
  shop.central.on('refused', ({ error }) => refusals.push(error))
  const till = await shop.addTill()
  let token = till.token
  const running = till.again({ transfer: { recordsPerRun: 3, everyMs: 10 }, token: () => token })
  running.on('failed', ({ error }) => refusals.push(error))
  await running.start()
  const tokens = [token]
  for (let round = 0; round < 5; round++) {
    sell(till, round * 30, round * 30 + 29)
    await eventually('a batch with the token', async () => (await shop.central.registers.list())[0]?.tokenUsedAt)
    const rotated = await shop.central.registers.rotate(till)
    tokens.push(rotated.token)
    await pause(random.int(0, 30)) // the new token is on its way to the till
    token = rotated.token
    const [listed] = await shop.central.registers.list()
    t.ok(listed?.overlapEndsAt, 'both are valid')
  }
  await running.synchronize()
  t.equal(new Set(tokens).size, 6)
  t.same(refusals, [])
  await shop.balances(t, till)
  t.same(await areValid(shop, till, tokens), [false, false, false, false, true, true], 'two are valid, no more')
})

t.test('the former token ends with its overlap, or at once', async (t) => {
  const clock = new ScriptedClock()
  const shop = await openShop(t, server, { clock })
  const till = await shop.addTill()
  await till.replica.synchronize()
  const { token } = await shop.central.registers.rotate(till)
  t.match(await shop.central.registers.list(), [
    { overlapEndsAt: new Date(clock.now() + DAY_MS).toISOString(), tokenUsedAt: undefined, revokedAt: undefined },
  ])
  t.same(await areValid(shop, till, [till.token, token]), [true, true])
  clock.advance(DAY_MS - 1)
  t.same(await areValid(shop, till, [till.token, token]), [true, true], 'a millisecond before its end')
  clock.advance(1)
  t.same(await areValid(shop, till, [till.token, token]), [false, true], 'at its end')
  t.match(await shop.central.registers.list(), [{ overlapEndsAt: undefined }])
  const next = await shop.central.registers.rotate(till, { overlapMs: 0 })
  t.same(await areValid(shop, till, [till.token, token, next.token]), [false, false, true])
  t.match(await shop.central.registers.list(), [{ overlapEndsAt: undefined, tokenUsedAt: new Date(clock.now()).toISOString() }])
  const { rows } = await shop.pool.query('SELECT token_hash FROM sync_credentials')
  t.equal(rows.length, 1)
  t.notOk(
    (await shop.pool.query('SELECT t::text FROM sync_credentials t')).rows.some(({ t }) => t.includes(next.token)),
    'only a hash is stored',
  )
})

t.test('a rotated token that was lost on its way is replaced by another rotation, and the one in use stays', async (t) => {
  const clock = new ScriptedClock()
  const shop = await openShop(t, server, { clock })
  const till = await shop.addTill()
  await till.replica.synchronize()
  const lost = await shop.central.registers.rotate(till)
  clock.advance(1_000)
  const found = await shop.central.registers.rotate(till, { overlapMs: 5_000 })
  const [, row] = await Promise.all([till.replica.synchronize(), shop.pool.query('SELECT count(*)::int AS tokens FROM sync_credentials')])
  t.same(row.rows, [{ tokens: 2 }])
  t.same(await areValid(shop, till, [till.token, lost.token, found.token]), [true, false, true])
  const third = await shop.central.registers.rotate(till, { overlapMs: 5_000 })
  t.same(await areValid(shop, till, [till.token, lost.token, found.token, third.token]), [false, false, true, true], 'found was used')
})

t.test('rotations at the same time leave two valid tokens at most', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  await till.replica.synchronize()
  const rotated = await Promise.all(Array.from({ length: 8 }, () => shop.central.registers.rotate(till)))
  t.equal(await isValid(shop, till, till.token), true, 'the one in use is among them')
  const valid = await areValid(
    shop,
    till,
    rotated.map(({ token }) => token),
  )
  t.equal(valid.filter(Boolean).length, 1)
})

t.test('a register that is revoked in the middle of a backlog keeps its entries and goes on with a new token', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const other = await shop.addTill('POS2')
  let exchanges = 0
  let token = till.token
  const running = till.again({
    transfer: { recordsPerRun: 3 },
    token: () => token,
    link: (inner) => ({
      async exchange(bytes, options) {
        if (++exchanges === 10) await shop.central.registers.revoke(till)
        return inner.exchange(bytes, options)
      },
    }),
  })
  sell(till, 1, 50)
  await t.rejects(running.synchronize(), { code: 'ERR_CREDENTIAL', retryable: false })
  const { pending } = await running.status()
  t.equal(pending, 50 * 3 - 9 * 3, 'what was taken before is acknowledged, the rest is kept')
  sell(till, 51, 60)
  await t.rejects(running.synchronize(), { code: 'ERR_CREDENTIAL' }, 'and it goes on selling')
  t.match(await shop.central.registers.list(), [
    { register: 'POS1', revokedAt: /^\d{4}-/, overlapEndsAt: undefined },
    { register: 'POS2', revokedAt: undefined },
  ])
  await other.replica.synchronize()
  token = (await shop.central.registers.rotate(till)).token
  t.equal(await isValid(shop, till, till.token), false, 'the revoked one stays so')
  await running.synchronize()
  t.equal((await running.status()).pending, 0)
  await shop.balances(t, till)
  t.match(await shop.central.registers.list(), [{ revokedAt: undefined, overlapEndsAt: undefined }, {}])
})

t.test('a register that is revoked while its batch is applied is told of it or not, and nothing is booked twice', async (t) => {
  let revoking: Promise<void> | undefined
  const isWaiting = async () =>
    (await shop.pool.query(`SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`)).rowCount
  const revoke = async () => {
    revoking ??= shop.central.registers.revoke(till)
    await eventually('the revocation waits for the batch', isWaiting)
  }
  const shop: Shop = await openShop(t, server, { subscribe: { ...SUBSCRIBE, receipts: [...[SUBSCRIBE.receipts ?? []].flat(), revoke] } })
  const till = await shop.addTill()
  sell(till, 1, 1)
  const running = till.replica
  const told = await running.synchronize().then(
    ({ sent }) => sent,
    ({ code }) => code,
  )
  t.ok(told === 3 || told === 'ERR_CREDENTIAL', String(told))
  await revoking
  await t.rejects(running.synchronize(), { code: 'ERR_CREDENTIAL' })
  const { token } = await shop.central.registers.rotate(till)
  await till.again({ token }).synchronize()
  await shop.balances(t, till)
})

t.test('a token that was valid a moment ago can use up nothing of what its register may send', async (t) => {
  const shop = await openShop(t, server, { limits: { exchangesPerMinute: 6 } })
  const till = await shop.addTill()
  const codes: (string | undefined)[] = []
  t.equal(await isValid(shop, till, till.token), true)
  await shop.central.registers.revoke(till)
  for (let n = 0; n < 5; n++) codes.push((await post(shop.url, till.token, Buffer.from('no message'))).code)
  t.same(codes, ['ERR_MESSAGE', 'ERR_CREDENTIAL', 'ERR_CREDENTIAL', 'ERR_CREDENTIAL', 'ERR_CREDENTIAL'], 'what is refused is looked up the next time')
  const { token } = await shop.central.registers.rotate(till)
  for (let n = 0; n < 4; n++) t.equal(await isValid(shop, till, token), true)
})

t.test('to revoke ends both tokens, and twice is as good as once', async (t) => {
  const clock = new ScriptedClock()
  const shop = await openShop(t, server, { clock })
  const till = await shop.addTill()
  await till.replica.synchronize()
  const { token } = await shop.central.registers.rotate(till)
  const at = new Date(clock.now()).toISOString()
  await shop.central.registers.revoke(till)
  clock.advance(1_000)
  await shop.central.registers.revoke(till)
  t.same(await areValid(shop, till, [till.token, token]), [false, false])
  t.match(await shop.central.registers.list(), [{ revokedAt: at }])
})

t.test('who is not known, and options that are none', async (t) => {
  const { central } = await openShop(t, server)
  const { registers } = central
  const nobody = { location: 'BA01', register: 'POS9' }
  await refused(t, () => registers.rotate(nobody), 'ERR_REGISTER')
  await refused(t, () => registers.revoke(nobody), 'ERR_REGISTER')
  await registers.add(nobody)
  await refused(t, () => registers.add(nobody), 'ERR_REGISTER')
  for (const wrong of [undefined, {}, { location: '', register: 'x' }, { location: 'x', register: 7 }]) {
    await refused(t, () => registers.rotate(wrong as never), 'ERR_OPTION')
    await refused(t, () => registers.revoke(wrong as never), 'ERR_OPTION')
  }
  for (const wrong of [null, 5, { overlapMs: -1 }, { overlapMs: 0.5 }, { overlapMs: '1' }, { overlapMs: 1e15 }, { overlap: 5 }])
    await refused(t, () => registers.rotate(nobody, wrong as never), 'ERR_OPTION')
})

t.test("a host's token function that fails is said, and tried again", async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  let token: () => string = () => {
    throw new Error('the vault is closed')
  }
  const replica = till.again({ token: () => token() })
  await t.rejects(replica.synchronize(), { code: 'ERR_CREDENTIAL', retryable: true, message: /vault/ })
  token = () => 'two words'
  await t.rejects(replica.synchronize(), { code: 'ERR_OPTION' })
  token = () => till.token
  await replica.synchronize()
  await refused(t, () => httpLink({ url: shop.url, token: 5 as never }), 'ERR_OPTION')
})
