import { randomBytes } from 'node:crypto'
import t from 'tap'
import type { CentralMailbox, Letter, Mailbox } from '../../src/ports.ts'
import { eventually } from '../support/eventually.ts'
import { refused } from '../support/refused.ts'
import { Stick } from '../support/stick.ts'

const NAME = { location: 'BA01', register: 'POS1' }
const key = () => randomBytes(32).toString('base64url')
const id = () => randomBytes(9).toString('base64url')

/** What lies there for a side, taken away. */
async function take(mailbox: Mailbox | CentralMailbox, letters: number): Promise<string[]> {
  const found: string[] = []
  for await (const { message, acknowledge } of mailbox.receive({ signal: AbortSignal.timeout(10_000) }) as AsyncIterable<Letter>) {
    found.push(Buffer.from(message).toString())
    await acknowledge()
    if (found.length === letters) break
  }
  return found
}

t.test('a key is changed while letters lie there, and each of them is read', async (t) => {
  const stick = new Stick(t)
  stick.carry('shop')
  const [former, next] = [key(), key()]
  const lists = [[former], [former, next], [next, former], [next]] as [string, ...string[]][]
  let n = 0
  // Neither side is ever more than a step ahead of the other, whichever goes first; where one has only the new key no letter under the former one may lie there.
  for (const [till, central] of [
    [0, 0],
    [1, 0],
    [1, 1],
    [2, 1],
    [1, 2],
    [2, 2],
    [3, 2],
    [2, 3],
    [3, 3],
  ] as const) {
    const register = stick.mailbox(NAME, { key: lists[till] as [string] })
    const office = stick.central({ keys: () => lists[central] as [string], folder: stick.at('shop') })
    await register.send(Buffer.from(`sale ${++n}`), { id: id() })
    await office.send(NAME, Buffer.from(`price ${n}`))
    t.same(await take(office, 1), [`sale ${n}`], `${till} ${central}: up`)
    t.same(await take(register, 1), [`price ${n}`], `${till} ${central}: down`)
  }
  t.same(stick.files(), [])
})

t.test('letters under the former key that lie there still are read, and known to lie there', async (t) => {
  const stick = new Stick(t)
  stick.carry('shop')
  const [former, next] = [key(), key()]
  const [first, second] = [id(), id()]
  await stick.mailbox(NAME, { key: former }).send(Buffer.from('a sale'), { id: first })
  const till = stick.mailbox(NAME, { key: [next, Buffer.from(former, 'base64url')] })
  await till.send(Buffer.from('another sale'), { id: second })
  t.same(await till.unread?.(), new Set([first, second]), 'neither is sent again')
  t.same(await stick.mailbox(NAME, { key: next }).unread?.(), new Set([second]), 'to one that has the new key only, the other is lost')
  const folder = stick.at('shop')
  const ending = new AbortController()
  const newOnly = stick.central({ keys: () => next, folder }).receive({ signal: ending.signal })
  const { value: letter } = await newOnly[Symbol.asyncIterator]().next()
  t.equal(Buffer.from(letter.message).toString(), 'another sale', 'it is written with the first')
  ending.abort()
  t.same(await take(stick.central({ keys: () => [next, former], folder }), 2), ['a sale', 'another sale'])
})

t.test('a letter under none of the keys is told of and left alone', async (t) => {
  const stick = new Stick(t)
  stick.carry('shop')
  await stick.mailbox(NAME, { key: key() }).send(Buffer.from('a sale'), { id: id() })
  const told: unknown[] = []
  const ending = new AbortController()
  const central = stick.central({ keys: () => [key(), key()], folder: stick.at('shop') })
  const receiving = (async () => {
    for await (const _ of central.receive({ signal: ending.signal, onRefused: (error, from) => told.push([error.code, from]) })) t.fail('it was read')
  })()
  await eventually('it is told of', () => told.length > 0)
  t.same(told, [['ERR_CREDENTIAL', NAME]])
  t.equal(stick.files('.up').length, 1)
  ending.abort()
  await receiving
})

t.test(
  'while a key store does not answer for one register, the letters of the others are read; its own come in their order when it does',
  async (t) => {
    const stick = new Stick(t)
    stick.carry('shop')
    const own = key()
    const other = { ...NAME, register: 'POS2' }
    for (const letter of ['1', '2', '3']) await stick.mailbox(NAME, { key: own }).send(Buffer.from(letter), { id: id() })
    for (const letter of ['a', 'b', 'c']) await stick.mailbox(other, { key: own }).send(Buffer.from(letter), { id: id() })
    const hanging = Promise.withResolvers<string>()
    let asked = 0
    const keys = ({ register }: typeof NAME) => {
      if (register === other.register) return own
      asked++
      return hanging.promise
    }
    const central = stick.central({ keys, folder: stick.at('shop') })
    const began = performance.now()
    t.same(await take(central, 3), ['a', 'b', 'c'])
    t.ok(performance.now() - began < 9_000, 'nobody has waited until the key store is given up')
    t.equal(asked, 1, 'it is asked once')
    hanging.resolve(own)
    t.same(await take(central, 3), ['1', '2', '3'])
  },
)

t.test('keys that are none are refused, and not shown', async (t) => {
  const stick = new Stick(t)
  stick.carry('shop')
  const secret = `${key()}=`
  for (const bad of [
    [],
    [secret],
    [key(), secret],
    [key(), undefined],
    Array.from({ length: 9 }, key),
    { 0: key() },
    randomBytes(31),
    [[key()]],
  ] as never[]) {
    const error = await refused(t, async () => stick.mailbox(NAME, { key: bad }), 'ERR_OPTION')
    t.notMatch(JSON.stringify([(error as Error | undefined)?.message, error]), secret)
    const central = stick.central({ keys: () => bad, folder: stick.at('shop') })
    await t.rejects(central.send(NAME, Buffer.from('a price')), { code: 'ERR_OPTION' })
  }
  t.same(stick.files(), [])
})
