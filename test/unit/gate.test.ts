import { randomBytes } from 'node:crypto'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import t from 'tap'
import { TillsyncError } from '../../src/errors.ts'
import { createToken } from '../../src/transport/credentials.ts'
import { Gate } from '../../src/transport/gate.ts'
import { Limiter } from '../../src/transport/limiter.ts'
import { networkOf } from '../../src/transport/source.ts'
import { ScriptedClock } from '../support/clock.ts'

const LIMITS = { wrongTokens: 3, lockOutMs: 1_000, exchangesPerMinute: 1_000_000, remembered: 1_000 }
const POS1 = { location: 'BA01', register: 'POS1' }

function codeOf(error: unknown): string {
  return error instanceof TillsyncError ? error.code : String(error)
}

t.test('a key is held off when it reaches its limit, until its hold ends', async (t) => {
  const clock = new ScriptedClock()
  const limiter = new Limiter({ clock, limit: 2, windowMs: 100, holdMs: 1_000, keys: 10 })
  limiter.count('a')
  t.equal(limiter.holdOf('a'), undefined)
  limiter.count('a')
  t.same(limiter.holdOf('a'), { retryAfterMs: 1_000, first: true })
  clock.advance(600)
  limiter.count('a')
  t.same(limiter.holdOf('a'), { retryAfterMs: 400, first: false }, 'what is counted meanwhile does not prolong it')
  t.equal(limiter.holdOf('b'), undefined)
  clock.advance(400)
  t.equal(limiter.holdOf('a'), undefined)
  limiter.count('a')
  clock.advance(100)
  limiter.count('a')
  t.equal(limiter.holdOf('a'), undefined, 'the two were not in one window')
})

t.test('without a time of its own a hold lasts as long as its window', async (t) => {
  const clock = new ScriptedClock()
  const limiter = new Limiter({ clock, limit: 1, windowMs: 100, keys: 10 })
  limiter.count('a')
  clock.advance(30)
  t.match(limiter.holdOf('a'), { retryAfterMs: 70 })
  clock.advance(70)
  t.equal(limiter.holdOf('a'), undefined)
})

t.test('a clock that is put back holds nobody off for longer', async (t) => {
  const clock = new ScriptedClock()
  const limiter = new Limiter({ clock, limit: 1, windowMs: 100, holdMs: 1_000, keys: 10 })
  limiter.count('a')
  clock.set(-3_600_000)
  t.match(limiter.holdOf('a'), { retryAfterMs: 1_000 })
  clock.advance(1_000)
  t.equal(limiter.holdOf('a'), undefined)
})

t.test('an IPv6 address stands for its network', async (t) => {
  const same = (...addresses: string[]) => t.equal(new Set(addresses.map(networkOf)).size, 1, addresses.join(' = '))
  const different = (...addresses: string[]) => t.equal(new Set(addresses.map(networkOf)).size, addresses.length, addresses.join(' ≠ '))
  same('2001:db8:1:2::1', '2001:0DB8:1:2:ffff:ffff:ffff:ffff', '2001:db8:1:2::1%eth0')
  same('2001:db8::1', '2001:db8:0:0:5::')
  same('1::2:3:4:5:6', '1:0:0:2:ffff::')
  same('::ffff:192.0.2.1', '192.0.2.1', '::ffff:c000:201')
  same('fe80::1%eth0', 'fe80::2%eth1')
  different('2001:db8:1:2::1', '2001:db8:1:3::1', '2001:db8:2:2::1', '192.0.2.1', '192.0.2.2', '::1', 'till 5', '::g', '')
})

t.test('what a hundred thousand sources leave behind is bounded', async (t) => {
  setFlagsFromString('--expose-gc')
  const collect = runInNewContext('gc') as () => void
  const gate = new Gate({ limits: LIMITS, clock: new ScriptedClock(), identify: async () => undefined, onRefused: () => undefined })
  const flood = async (sources: number): Promise<number> => {
    for (let n = 0; n < sources; n++) {
      // As it is cut out of a long header, which the short text would keep in memory.
      const source = `${n}.${'x'.repeat(4_000)}, 192.0.2.${n} and whoever else`.slice(-40)
      await gate.admit(n % 2 === 0 ? null : `Bearer ${createToken()}`, n % 3 === 0 ? undefined : source).catch(() => undefined)
    }
    collect()
    return process.memoryUsage().heapUsed
  }
  const before = await flood(5_000)
  const after = await flood(100_000)
  t.ok(after - before < 2_000_000, `${after - before} bytes`)
})

t.test('who was proven a moment ago is not looked up, unless his message was refused, and nowhere where nobody proves him later', async (t) => {
  const clock = new ScriptedClock()
  const shown = `Bearer ${createToken()}`
  let lookups = 0
  const identify = async () => {
    lookups++
    return POS1
  }
  const gate = new Gate({ limits: LIMITS, clock, identify, isProvenLater: true, onRefused: () => undefined })
  const lookedUp = async (by: Gate): Promise<number> => {
    const before = lookups
    t.same((await by.admit(shown, 'a')).register, POS1)
    return lookups - before
  }
  t.equal(await lookedUp(gate), 1)
  t.equal(await lookedUp(gate), 0)
  clock.advance(119_999)
  t.equal(await lookedUp(gate), 0)
  clock.advance(1)
  t.equal(await lookedUp(gate), 1, 'two minutes behind the last proof')
  gate.refused(await gate.admit(shown, 'a'), new TillsyncError('ERR_BUSY', 'Another process works for it'))
  t.equal(await lookedUp(gate), 1, 'who was refused')
  clock.advance(60_000)
  gate.proven(await gate.admit(shown, 'a'))
  clock.advance(119_999)
  t.equal(await lookedUp(gate), 0, 'what was done for him was a proof')
  const strict = new Gate({ limits: LIMITS, clock, identify, onRefused: () => undefined })
  t.equal(await lookedUp(strict), 1)
  t.equal(await lookedUp(strict), 1)
})

t.test('strangers wait in line, registers that are known go past them', async (t) => {
  const token = createToken()
  let open = (): void => undefined
  const opened = new Promise<void>((resolve) => {
    open = resolve
  })
  let lookups = 0
  const identify = async (sent: string) => {
    if (sent === token) return POS1
    lookups++
    await opened
    return undefined
  }
  const gate = new Gate({ limits: { ...LIMITS, wrongTokens: 1_000_000 }, clock: new ScriptedClock(), identify, onRefused: () => undefined })
  await gate.admit(`Bearer ${token}`, 'a')
  const strangers = Array.from({ length: 10_500 }, () => gate.admit(`Bearer ${randomBytes(32).toString('base64url')}`, undefined).catch(codeOf))
  t.same((await gate.admit(`Bearer ${token}`, 'a')).register, POS1)
  t.equal(lookups, 2)
  open()
  const codes = Map.groupBy(await Promise.all(strangers), (code) => code)
  t.same([...codes.keys()].sort(), ['ERR_BUSY', 'ERR_CREDENTIAL'])
  t.equal(codes.get('ERR_CREDENTIAL')?.length, 10_002)
})
