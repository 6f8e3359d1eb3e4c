import Database from 'better-sqlite3'
import t from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { readRules } from '../../src/capture/rules.ts'
import { Sealer } from '../../src/capture/sealer.ts'
import { systemClock } from '../../src/clock.ts'
import { createRegister } from '../../src/index.ts'
import type { CapturingDatabase } from '../../src/ports.ts'
import { Sealing } from '../../src/sealing.ts'
import { eventually } from '../support/eventually.ts'
import { openDatabase } from '../support/shop.ts'

/** Lets so many steps of promises go by. */
async function steps(count: number): Promise<void> {
  for (let n = 0; n < count; n++) await undefined
}

const MOST = 30

t.test('whenever sealing is asked for while it comes to its end, it begins once more behind that', async (t) => {
  for (let at = 0; at < MOST; at++) {
    let began = 0
    let look: () => void = () => undefined
    const database = {
      watch(listener: () => void) {
        look = listener
        return () => undefined
      },
    }
    const sealer = {
      planning: {},
      async seal() {
        began++
      },
      async resealPending() {},
    }
    const sealing = new Sealing({
      database: database as unknown as CapturingDatabase,
      clock: systemClock,
      sealer: sealer as unknown as Sealer,
      onFailed: (error) => t.fail(error.message),
    })
    sealing.start()
    await steps(at)
    const before = began
    look()
    await steps(2 * MOST)
    t.ok(began > before, `asked for after ${at} steps`)
    sealing.abort()
    await sealing.ended()
  }
})

t.test('who is waiting for a run that somebody else ends has all sealed all the same', async (t) => {
  const { file, db } = openDatabase(t, 'CREATE TABLE receipts (id INTEGER PRIMARY KEY)')
  const publish = { receipts: {} }
  const till = createRegister({ location: 'BA01', register: 'POS1', database: sqlite(() => new Database(file)), publish })
  t.teardown(() => till.stop())
  await till.install()
  const inner = sqlite(() => new Database(file))
  t.teardown(() => inner.close())
  await inner.open()
  /** Each run reads first whether there is anything to be done; unless `isFree` it waits there. */
  const waiting: (() => void)[] = []
  let isFree = true
  const read: typeof inner.read = async (work, options) => {
    if (!isFree) await new Promise<void>((resolve) => waiting.push(resolve))
    return inner.read(work, options)
  }
  const database = new Proxy(inner, {
    get(target, name) {
      const value = name === 'read' ? read : Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
  const nothing = () => undefined
  const sealer = new Sealer({ database, specs: readRules(publish), clock: systemClock, onSealed: nothing, onUpkeep: nothing })
  await sealer.planning.planned()
  isFree = false
  const begun = () => eventually('a run begins', () => waiting.shift())
  const first = sealer.seal()
  const goOn = await begun()
  const ending = new AbortController()
  const ended = t.rejects(sealer.seal(ending.signal), { code: 'ERR_ABORTED' }, 'whose run it is hears of its end')
  const sealed = sealer.seal()
  goOn()
  await first
  const end = await begun()
  db.exec('INSERT INTO receipts VALUES (1)')
  ending.abort()
  isFree = true
  end()
  await ended
  await sealed
  t.match(await till.entries(), [{ table: 'receipts' }])
})
