import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import t from 'tap'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { NoticeBook } from '../../src/apply/notice-book.ts'
import { NOTICES } from '../../src/apply/notice-tables.ts'
import { type Followed, noteRecords } from '../../src/apply/notices.ts'
import { migrate } from '../../src/migrate.ts'
import type { Notice } from '../../src/model.ts'
import { Random, seedOfRun } from '../support/random.ts'

// The operator believes what he was told last. Whatever changes, and whenever he acknowledges, what he believes and the notices together are what is.

const seed = seedOfRun()
t.comment(`--seed=${seed}`)
const RECORDS = ['["A"]', '["B"]', '["C"]']

type Known = Readonly<Record<string, unknown>> | null

/** What the operator would believe if he acknowledged these. */
function believing(known: Known, notices: readonly Notice[]): Known {
  const whole = notices.find(({ column }) => column === undefined)
  if (whole !== undefined) return whole.new as Known
  return known && { ...known, ...Object.fromEntries(notices.map(({ column, new: now }) => [column, now])) }
}

const valuesOf = (followed: Followed): Known =>
  followed && Object.fromEntries(Object.entries(followed).map(([name, text]) => [name, JSON.parse(text)]))

t.test('what the operator was told, and the notices, are together what is', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'tillsync-test-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'till.sqlite')
  const host = new Database(file)
  host.pragma('journal_mode = WAL')
  const database = sqlite(() => new Database(file))
  await database.open()
  t.teardown(async () => {
    await database.close()
    host.close()
  })
  await database.write(() => migrate(database, [{ component: 'apply', steps: [{ create: [NOTICES] }] }]))
  const book = new NoticeBook(database, async () => undefined)
  const random = new Random(seed)
  const state = (): Followed => (random.chance(0.25) ? null : { name: JSON.stringify(random.pick(['x', 'y'])), unit_price: String(random.int(1, 3)) })
  const now = new Map<string, Followed>()
  const believed = new Map<string, Known>()
  let listed: readonly Notice[] = []
  for (let step = 0; step < 400; step++) {
    const followups = Array.from({ length: random.int(1, 3) }, () => {
      const recordId = random.pick(RECORDS)
      const before = now.get(recordId) ?? null
      const after = state()
      now.set(recordId, after)
      return { table: 'items', recordId, before, after, byDate: random.chance(0.3) }
    })
    const news = await database.write(() => noteRecords(database, followups, '2026-11-21T10:00:00.000Z'))
    const notices = await book.list()
    t.ok(
      news.every((row) => notices.some(({ id }) => id === row.notice_id)),
      'what is said to be new is listed',
    )
    if (random.chance(0.3)) listed = notices
    if (random.chance(0.3)) {
      // An old list: what changed since is not in it any more.
      const some = listed.filter(() => random.chance(0.7))
      const still = new Set(notices.map(({ id }) => id))
      const there = some.filter(({ id }) => still.has(id))
      t.equal((await book.acknowledge(some.map(({ id }) => id))).acknowledged, there.length)
      for (const [recordId, own] of Map.groupBy(there, (notice) => JSON.stringify(notice.recordId)))
        believed.set(recordId, believing(believed.get(recordId) ?? null, own))
    }
    const waiting = await book.list({ table: 'items' })
    for (const recordId of RECORDS) {
      const own = waiting.filter((notice) => JSON.stringify(notice.recordId) === recordId)
      const known = believed.get(recordId) ?? null
      t.same(believing(known, own), valuesOf(now.get(recordId) ?? null), `${recordId} at step ${step}`)
      for (const { column, old } of own) t.same(old, column === undefined ? known : known?.[column], 'the old value is what he was told')
      t.ok(
        own.every(({ old, new: value }) => JSON.stringify(old) !== JSON.stringify(value)),
        'no notice of nothing',
      )
    }
  }
})
