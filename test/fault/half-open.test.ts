import { fork } from 'node:child_process'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import type { TillsyncError } from '../../src/errors.ts'
import { encodeMessage } from '../../src/transport/codec.ts'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'
import { eventually } from '../support/eventually.ts'
import { type Fault, Line } from '../support/fault/line.ts'
import { KINDS, openSeat, settles } from '../support/fault/seat.ts'
import { startServer } from '../support/postgres.ts'
import { openShop } from '../support/shop.ts'
import { EPOCH } from '../support/wire.ts'
import type { StepCentralArguments } from './step-central.ts'

t.setTimeout(240_000)
const server = await startServer(t)
/** The first two mostly wait for what does not come. */
t.jobs = KINDS.length

const TIMEOUT_MS = 2_000
/** How long an exchange may take beyond its bound, on a machine that has other things to do too. */
const SLACK_MS = 10_000

const FAULTS: Readonly<Record<string, Fault>> = {
  'accepts and never answers': { way: 'request', afterBytes: 0, how: 'silence' },
  'is silent in the middle of a request': { way: 'request', afterBytes: 300, how: 'silence' },
  'is silent before the answer': { way: 'answer', afterBytes: 0, how: 'silence' },
  'is silent in the middle of an answer': { way: 'answer', afterBytes: 150, how: 'silence' },
  'breaks in the middle of a request': { way: 'request', afterBytes: 300, how: 'cut' },
  'breaks before the answer': { way: 'answer', afterBytes: 0, how: 'cut' },
  'breaks in the middle of an answer': { way: 'answer', afterBytes: 150, how: 'cut' },
}

for (const kind of KINDS) {
  t.test(
    `${kind}: a line that hangs or breaks: exchanges end by their bound, sales go on, and all arrives when it is back`,
    { buffered: true },
    async (t) => {
      const shop = await openShop(t, server)
      const line = await Line.open(t, shop.url)
      const seat = await openSeat(t, kind, server, shop)
      const replica = seat.replica(line.url, { timeoutMs: TIMEOUT_MS, everyMs: 20 })
      const said: string[] = []
      const failed: TillsyncError[] = []
      replica.on('offline', ({ error }) => said.push(`offline ${error.code} ${error.retryable}`))
      replica.on('online', () => said.push('online'))
      replica.on('failed', ({ error }) => failed.push(error))
      await replica.install()
      await replica.start()
      for (const [name, fault] of Object.entries(FAULTS)) {
        said.length = 0
        line.break(fault)
        for (const sale of seat.sales(5)) await seat.sell(sale)
        await eventually(`${name}: it is said`, () => said.length > 0)
        const began = performance.now()
        await t.rejects(replica.synchronize(), { code: 'ERR_LINK', retryable: true }, name)
        // One that is under way ends first.
        t.ok(performance.now() - began < 2 * TIMEOUT_MS + SLACK_MS, `${name}: within ${Math.round(performance.now() - began)} ms`)
        for (const sale of seat.sales(5)) await seat.sell(sale)
        t.same(said, ['offline ERR_LINK true'], `${name}: said once`)
        line.mend()
        await eventually(`${name}: all arrives`, async () => {
          const { pending, unsealed } = await replica.status()
          return said.length === 2 && pending === 0 && unsealed === 0
        })
        t.same(said, ['offline ERR_LINK true', 'online'], name)
      }
      t.same(failed, [], 'nothing failed but the line')
      await settles(t, shop, seat, replica, kind)
      await replica.stop()
    },
  )
}

t.test('hundreds of half-open connections at one central: the others are served, in bounded memory', async (t) => {
  const shop = await openShop(t, server)
  const { rows } = await shop.pool.query('SELECT current_database() AS name')
  const options: StepCentralArguments = { config: server.database(rows[0].name).config }
  const child = fork(join(import.meta.dirname, 'step-central.ts'), [JSON.stringify(options)], { execArgv: [] })
  t.teardown(() => child.kill('SIGKILL'))
  const [port] = await once(child, 'message')
  const memory = async (): Promise<number> => {
    child.send('memory')
    return (await once(child, 'message'))[0] as number
  }
  const tokens: string[] = []
  const names = Array.from({ length: 100 }, (_, n) => ({ location: 'BA01', register: `HALF${n}` }))
  for (const name of names) tokens.push((await shop.central.registers.add(name)).token)
  const seat = await openSeat(t, 'sqlite', server, shop)
  const replica = seat.replica(`http://127.0.0.1:${port}/`)
  await replica.install()
  for (const sale of seat.sales(20)) await seat.sell(sale)
  await replica.synchronize()
  const before = await memory()

  const open: Socket[] = []
  t.teardown(() => open.forEach((socket) => void socket.destroy()))
  const halfOpen = async (bytes: string | Uint8Array, rest: Uint8Array = Buffer.alloc(0)): Promise<void> => {
    const socket = connect(Number(port), '127.0.0.1').on('error', () => undefined)
    await once(socket, 'connect')
    open.push(socket)
    socket.pause()
    if (bytes.length > 0) socket.write(bytes)
    if (rest.length > 0) socket.write(rest)
  }
  const head = (token: string, length: number) =>
    `POST / HTTP/1.1\r\nHost: central\r\nAuthorization: Bearer ${token}\r\nContent-Type: ${CONTENT_TYPE}\r\nContent-Length: ${length}\r\n\r\n`
  for (const [n, token] of tokens.entries()) {
    const idle = await encodeMessage({ from: names[n] as never, id: 'idle', wait: 60_000, publish: { epoch: EPOCH, head: 0 } })
    await halfOpen('')
    await halfOpen('POST / HTTP/1.1\r\nHost: cen')
    await halfOpen(head(token, 8_000_000), Buffer.alloc(100_000))
    // Held, for a register that is not there any more; and one whose answer is never read.
    await halfOpen(head(token, idle.length), idle)
  }
  t.equal(open.length, 400)

  const began = performance.now()
  for (const sale of seat.sales(50)) {
    await seat.sell(sale)
    await replica.synchronize()
  }
  const each = (performance.now() - began) / 50
  t.ok(each < 1_000, `${each.toFixed(1)} ms for a sale and its exchange`)
  const more = (await memory()) - before
  t.ok(more < 150_000_000, `${Math.round(more / 1e6)} MB more`)
  await settles(t, shop, seat, replica, 'the others')
  await replica.stop()
})
