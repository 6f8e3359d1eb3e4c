import Database from 'better-sqlite3'
import t from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { NoticeBook } from '../../src/apply/notice-book.ts'
import { NOTICES } from '../../src/apply/notice-tables.ts'
import { NoticeWatch } from '../../src/apply/notice-watch.ts'
import { migrate } from '../../src/migrate.ts'
import type { Notice } from '../../src/model.ts'
import { openDatabase } from '../support/shop.ts'

const LINES = 'CREATE TABLE lines (id INTEGER PRIMARY KEY, unit_price TEXT NOT NULL, valid_from TEXT NOT NULL, valid_to TEXT NOT NULL)'
/** So many are looked at in one transaction when a day begins. */
const PAGE = 200

t.test('what a day begins with is told as of the day before, however far its beginning has come', async (t) => {
  const { file, db } = openDatabase(t, LINES)
  const database = sqlite(() => new Database(file))
  await database.open()
  t.teardown(() => database.close())
  await database.write(() => migrate(database, [{ component: 'apply', steps: [{ create: [NOTICES] }] }]))
  const book = new NoticeBook(database, async () => undefined)
  let now = Date.parse('2026-11-20T12:00:00')
  const noted: ((notices: readonly Notice[]) => void)[] = []
  /** Another process of the till. */
  const watch = () =>
    new NoticeWatch({
      database,
      clock: { now: () => now, ticks: () => now, random: () => 0.5, sleep: async () => undefined },
      rules: [{ table: 'lines', columns: ['unit_price'], validity: undefined }],
      onNoted: (notices) => {
        for (const listener of noted) listener(notices)
      },
    })
  const rowOf = (id: number) => JSON.stringify(db.prepare('SELECT * FROM lines WHERE id = ?').get(id))
  const remove = async (by: NoticeWatch, id: number) => {
    const before = rowOf(id)
    db.prepare('DELETE FROM lines WHERE id = ?').run(id)
    await database.write(() => by.changed([{ table: 'lines', before, after: undefined }]))
  }
  const said = async () => (await book.list()).map(({ recordId, kind, old, new: value }) => [recordId[0], kind, old, value])
  const add = db.prepare('INSERT INTO lines VALUES (?, ?, ?, ?)')
  add.run(1, '0.80', '2026-11-01', '2026-11-25')
  add.run(2, '0.90', '2026-11-25', '2026-12-31')
  for (let id = 3; id <= PAGE + 1; id++) add.run(id, '1.00', '2027-01-01', '2027-12-31')
  const never = new AbortController().signal
  await watch().roll(never)
  now += 10 * 86_400_000
  const awake = watch()
  await remove(awake, 1)
  t.same(await said(), [[1, 'removed', { unit_price: '0.80' }, null]], 'it has ended while the till was asleep, and its label hangs there')
  const ending = new AbortController()
  noted.push(() => ending.abort())
  await awake.roll(ending.signal)
  t.same((await said())[1], [2, 'starts', null, { unit_price: '0.90' }], 'told before the day was stopped from beginning')
  await remove(watch(), 2)
  t.same(await said(), [[1, 'removed', { unit_price: '0.80' }, null]], 'what is not there has not started')
})
