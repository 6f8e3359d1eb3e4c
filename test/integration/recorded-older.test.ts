// The conversations of which only the messages are recorded are of registers and centrals that know nothing of comparisons, of what central publishes, and of documents sent back. Today's side, which
// does all of that, meets them here; recorded-wire.test.ts plays them to one that does none of it.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'
import { type Message, PROTOCOL_VERSION } from '../../src/transport/message.ts'
import { HeadOffice } from '../fixtures/wire/deeds.ts'
import { type Conversation, type RecordedStep, readConversations } from '../fixtures/wire/recording.ts'
import { arrived, kept, OFFER_TABLES, POS1, TAKE, TILL_TABLES } from '../fixtures/wire/scene.ts'
import { Till, type TillOptions } from '../fixtures/wire/till.ts'
import { eventually } from '../support/eventually.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { Drawn } from '../support/recorded.ts'
import { answer, pushed, RECORDS_PER_RUN, Scene, TOKEN } from '../support/recorded-scene.ts'

const server = await startServer(t)
const older = readConversations(PROTOCOL_VERSION).filter(({ played }) => played === undefined)
const called = (name: string) => older.find((conversation) => conversation.name === name) as Conversation

t.test('the recorded sides say nothing of it', async (t) => {
  for (const { steps } of older) {
    for (const { message } of steps) {
      const { audiences, published, publish, subscribe } = message as Message
      t.same([audiences, published, publish?.compared, publish?.back, subscribe?.compare, subscribe?.back].filter(Boolean), [])
    }
  }
})

for (const name of ['first-sales', 'restored'])
  t.test(`an older register passes over what today's central asks of it and offers it: ${called(name).shows}`, async (t) => {
    const conversation = called(name)
    const office = new HeadOffice(await createPool(t, server))
    const { central, pool } = office
    t.teardown(() => central.stop())
    await office.open(false)
    await pool.query("INSERT INTO items VALUES ('1', 'Item', '1.00', 'BA01')")
    const ended = central.compare('receipts', POS1, { timeoutMs: 1_500 }).catch(({ code }) => code)
    await eventually('it is asked', async () => (await pool.query('SELECT FROM sync_comparisons')).rowCount)
    const drawn = new Drawn()
    const asked = { comparisons: 0, orphans: 0 }
    for (let n = 0; n < conversation.steps.length; n += 2) {
      const [said, recorded] = conversation.steps.slice(n, n + 2) as [RecordedStep, RecordedStep]
      for (const { id } of await central.orphans.list()) await central.orphans.sendBack(id).catch(({ code }) => t.equal(code, 'ERR_ORPHAN'))
      const headers = { authorization: `Bearer ${office.token}`, 'content-type': CONTENT_TYPE }
      const body = said.bytes as Uint8Array<ArrayBuffer>
      const response = await central.fetch(new Request('http://central/', { method: 'POST', headers, body }))
      t.equal(response.status, recorded.status)
      const today = await drawn.compared(new Uint8Array(await response.arrayBuffer()), recorded.bytes)
      const { compare, back, ...subscribe } = (today.said.subscribe ?? {}) as NonNullable<Message['subscribe']>
      if (compare) asked.comparisons++
      if (back) asked.orphans++
      t.same({ ...today.said, subscribe }, { ...today.was, subscribe: today.was.subscribe ?? {} }, `${name} ${n + 2}: ${recorded.shows}`)
    }
    t.ok(asked.comparisons > 0, 'it was asked')
    t.equal(await ended, 'ERR_UNANSWERED', 'and central ends its waiting')
    t.equal(asked.orphans > 0, name === 'restored')
    t.ok(
      (await central.orphans.list()).every(({ back }) => back === 'offered'),
      'what is offered stays so',
    )
    t.same(await arrived(pool), conversation.arrived, 'the documents have arrived')
  })

async function openTill(t: Test, transfer: TillOptions['transfer'] & object): Promise<Till> {
  const folder = mkdtempSync(join(tmpdir(), 'tillsync-recorded-'))
  const till = new Till(join(folder, 'till.sqlite'), { subscribe: TAKE, transfer })
  t.teardown(async () => {
    await till.close()
    rmSync(folder, { recursive: true, force: true })
  })
  till.db.exec(TILL_TABLES + OFFER_TABLES)
  await till.start()
  return till
}

function sell(till: Till, receiptNo: string, quantity = '1'): void {
  const { lastInsertRowid } = till.db.prepare('INSERT INTO receipts (receipt_no) VALUES (?)').run(receiptNo)
  till.db.prepare("INSERT INTO receipt_lines (receipt_id, item_no, quantity) VALUES (?, '4006381333931', ?)").run(lastInsertRowid, quantity)
}

t.test("today's register sells as ever where an older central publishes nothing", async (t) => {
  const scene = new Scene(t, called('restored'), ['audiences'])
  const till = await openTill(t, pushed(scene))
  for (let n = 1; n <= 6; n++) sell(till, `R-${n}`)
  await till.replica.synchronize()
  till.db.exec("UPDATE receipt_lines SET quantity = '7' WHERE receipt_id = 2")
  sell(till, 'R-lost', '3')
  await till.replica.synchronize()
  t.match(scene.step?.shows, /the search/, 'until the recorded till was restored')
  t.match(kept(till.db), { items: [], item_barcodes: [] })
})

t.test("today's register answers an older central that pulls it, and is not asked for what that can't know", async (t) => {
  const scene = new Scene(t, called('pull'), ['audiences'])
  const till = await openTill(t, { type: 'pull', token: TOKEN, recordsPerRun: RECORDS_PER_RUN })
  await answer(scene, till)
  for (let n = 1; n <= 7; n++) sell(till, `R-${n}`)
  const { shows } = scene.step as RecordedStep
  while (scene.step?.shows === shows) await answer(scene, till)
  t.ok(scene.at > 6)
})
