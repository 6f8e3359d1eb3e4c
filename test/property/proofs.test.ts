import t, { type Test } from 'tap'
import { type AnyDocument, type AnyTables, type Movement, negate, type RegisterName, type SubscribeRules, stockMovements } from '../../src/index.ts'
import { CLOSING_PUBLISH, CLOSING_TILL, ClosingCashier, computed, receiptLines, type TestLine } from '../support/closings.ts'
import { startServer } from '../support/postgres.ts'
import { differing, found } from '../support/proofs.ts'
import { Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { backupOf, Machine, restoreFrom } from '../support/world.ts'

const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)

const DAYS = ['2026-11-20', '2026-11-21', '2026-11-22']
const ITEMS = ['A', 'B', 'C', 'D']
/** A till that may give a number twice. */
const TILL = CLOSING_TILL.replace(', UNIQUE (series, number)', '')
const LOCATION = 'BA01'

/** A shop of two registers with three days behind it, each closed. */
class Scene {
  readonly shop: Shop
  readonly machines: readonly Machine[]
  readonly random: Random
  private readonly t: Test
  /** Of each register the last number, and the last that is closed. */
  readonly last: number[] = []
  readonly closed: number[] = []
  readonly state: { poison: boolean }

  constructor(t: Test, shop: Shop, machines: readonly Machine[], random: Random, state: { poison: boolean }) {
    this.t = t
    this.shop = shop
    this.machines = machines
    this.random = random
    this.state = state
    for (const _ of machines) {
      this.last.push(0)
      this.closed.push(0)
    }
  }

  sell(n: number, day: string, number = (this.last[n] as number) + 1, item?: string): number {
    const { random } = this
    const lines = Array.from({ length: random.int(1, 3) }, (): TestLine => {
      const quantity = random.int(-1, 4) || 1
      return {
        item: item ?? random.pick(ITEMS),
        quantity: `${quantity}`,
        net: `${quantity * random.int(1, 9)}.5`,
        vat: '1.25',
        location: random.pick([null, null, 'WH']),
      }
    })
    this.last[n] = Math.max(this.last[n] as number, number)
    return new ClosingCashier((this.machines[n] as Machine).db).sell('sale', number, lines, { customer: random.pick([null, 'C1', 'C2']), date: day })
  }

  close(n: number, day: string): void {
    const from = (this.closed[n] as number) + 1
    const through = this.last[n] as number
    this.closed[n] = through
    new ClosingCashier((this.machines[n] as Machine).db).closeRange(`Z${through}`, from > through ? null : [from, through], null, { date: day })
  }

  async send(): Promise<void> {
    for (const machine of this.machines) await machine.replica.synchronize()
  }

  /** What the proofs find, of all registers and days. */
  async proves(): Promise<{ readonly audited: string[]; readonly reconciled: string[] }> {
    const { central } = this.shop
    const audited = found(await central.audit({ location: LOCATION }))
    const reconciled: string[] = []
    for (const businessDate of DAYS) {
      const whole = await central.reconcile({ location: LOCATION, businessDate })
      if (this.random.chance(0.2)) {
        const parts = await Promise.all(['POS0', 'POS1'].map((register) => central.reconcile({ location: LOCATION, register, businessDate })))
        this.t.same(parts.flatMap(differing).sort(), differing(whole).sort(), 'register by register the same')
      }
      reconciled.push(...whole.differences.map(({ why, register, table, recordId }) => `${businessDate} ${why} ${register} ${table} ${recordId}`))
    }
    return { audited: audited.sort(), reconciled: reconciled.sort() }
  }

  async are(audited: readonly string[], reconciled: readonly string[], when: string): Promise<void> {
    this.t.same(await this.proves(), { audited: [...audited].sort(), reconciled: [...reconciled].sort() }, when)
  }

  same(found: readonly string[], wanted: readonly string[], when: string): void {
    this.t.same(found, wanted, when)
  }

  /** One row of a table, at random: its columns as text. */
  async row(sql: string): Promise<Record<string, string>> {
    const { rows } = await this.shop.pool.query<{ row: Record<string, string> }>(`SELECT row_to_json(r) AS row FROM (${sql}) r`)
    return this.random.pick(rows).row
  }
}

async function open(t: Test, random: Random): Promise<Scene> {
  const state = { poison: true }
  const movements = (receipt: AnyDocument, { location }: RegisterName): Movement[] => {
    const lines = receiptLines(receipt)
    if (state.poison && lines.some(({ item }) => item === 'POISON')) throw new Error('the item is poison')
    return lines.map(({ item, location: at, customer, quantity, netAmount }) => ({
      item,
      location: at ?? location,
      businessDate: receipt.business_date,
      document: `${receipt.series} ${receipt.number}`,
      customer: customer ?? null,
      quantity: negate(quantity),
      amount: netAmount,
    }))
  }
  const subscribe: SubscribeRules<AnyTables> = { receipts: stockMovements(movements), ...computed() }
  const numbering = { receipts: { column: 'number', by: ['series'], first: 1 } }
  const shop = await openShop(t, server, { schema: 'CREATE TABLE nothing (id int)', subscribe, numbering, retainArchiveMs: 0 })
  const transfer = { recordsPerRun: random.pick([1, 7, 50]) }
  const publish = { ...CLOSING_PUBLISH, receipts: { ...CLOSING_PUBLISH.receipts, identity: ['series', 'number'] } } as typeof CLOSING_PUBLISH
  const machines: Machine[] = []
  for (const register of ['POS0', 'POS1']) machines.push(new Machine(t, await shop.addTill(register, { schema: TILL, publish, transfer })))
  const scene = new Scene(t, shop, machines, random, state)
  for (const day of DAYS) {
    for (const n of [0, 1]) {
      for (let sales = random.int(1, 5); sales > 0; sales--) scene.sell(n, day)
      if (random.chance(0.5)) await machines[n]?.replica.synchronize()
      scene.close(n, day)
      const change = random.pick([
        "UPDATE receipt_lines SET quantity = '9' WHERE id % 3 = 0",
        "UPDATE receipts SET customer_no = 'C3' WHERE id % 2 = 0",
        "UPDATE receipts SET status = 'voided' WHERE id = 2",
        'DELETE FROM receipts WHERE id = 1',
      ])
      await machines[n]?.replica.synchronize()
      machines[n]?.db.exec(change)
    }
    await scene.send()
  }
  return scene
}

type Damage = (scene: Scene) => Promise<void>

/** What somebody does to central's tables; put back afterwards. */
const byHand: Readonly<Record<string, Damage>> = {
  async 'a movement is deleted'(scene) {
    const row = await scene.row(
      `SELECT m.*, register FROM stock_movements m JOIN sync_registers r USING (register_id) WHERE (register_id, record_id, item_no, business_date) IN (
         SELECT register_id, record_id, item_no, business_date FROM stock_movements GROUP BY 1, 2, 3, 4 HAVING count(*) = 1) AND (quantity <> 0 OR amount <> 0)`,
    )
    await scene.shop.pool.query('DELETE FROM stock_movements WHERE movement_no = $1', [row.movement_no])
    await scene.are([], [`${row.business_date} ledger ${row.register} receipts ${row.record_id}`], 'a movement is deleted')
  },
  async 'all that was posted of a receipt is deleted'(scene) {
    const row = await scene.row(
      `SELECT m.business_date, m.record_id, m.register_id, m.incarnation, register FROM stock_movements m JOIN sync_registers r USING (register_id)
       GROUP BY 1, 2, 3, 4, 5 HAVING sum(abs(quantity)) > 0 AND (SELECT count(*) FROM stock_movements n WHERE n.register_id = m.register_id AND n.record_id = m.record_id) = count(*)
         AND sum(quantity) <> 0`,
    )
    const where = 'register_id = $1 AND record_id = $2 AND incarnation = $3'
    await scene.shop.pool.query(`DELETE FROM stock_movements WHERE ${where}`, [row.register_id, row.record_id, row.incarnation])
    await scene.shop.pool.query(`DELETE FROM sync_postings WHERE table_name = 'receipts' AND ${where}`, [
      row.register_id,
      row.record_id,
      row.incarnation,
    ])
    await scene.are([], [`${row.business_date} posted ${row.register} receipts ${row.record_id}`], 'all that was posted of a receipt is deleted')
  },
  async 'an archived entry is deleted'(scene) {
    const row = await scene.row(
      `SELECT a.*, register, d.table_name AS root, d.record_id AS root_id FROM sync_archive a JOIN sync_registers r USING (register_id)
       JOIN sync_archive d ON d.register_id = a.register_id AND d.epoch_no = a.epoch_no AND d.entry_no = a.document_no WHERE a.entry_no <> a.document_no`,
    )
    const where = 'register_id = $1 AND epoch_no = $2 AND entry_no = $3'
    await scene.shop.pool.query(`DELETE FROM sync_archive WHERE ${where}`, [row.register_id, row.epoch_no, row.entry_no])
    const { audited, reconciled } = await scene.proves()
    scene.same(audited, [`ENTRIES_MISSING ${row.entry_no}`], 'an archived entry is deleted')
    const others = reconciled.filter((one) => !one.endsWith(` missing ${row.register} ${row.root} ${row.root_id}`))
    scene.same(others, [], 'nobody can say what its document should have posted, and nothing else is wrong')
  },
  async 'an archived entry is changed'(scene) {
    const row = await scene.row('SELECT * FROM sync_archive')
    const at = [row.register_id, row.epoch_no, row.entry_no]
    await scene.shop.pool.query(
      "UPDATE sync_archive SET sealed_at = sealed_at + interval '1 second' WHERE (register_id, epoch_no, entry_no) = ($1, $2, $3)",
      at,
    )
    const between = await scene.row(
      `SELECT coalesce(max(entry_no) FILTER (WHERE entry_no < ${row.entry_no}), (SELECT start_no FROM sync_epochs WHERE (register_id, epoch_no) = (${row.register_id}, ${row.epoch_no}))) AS after, min(entry_no) FILTER (WHERE entry_no >= ${row.entry_no}) AS through
       FROM sync_points WHERE (register_id, epoch_no) = (${row.register_id}, ${row.epoch_no})`,
    )
    await scene.are([`DIGEST ${between.after}…${between.through}`], [], 'an archived entry is changed')
  },
  async 'a closing line is changed'(scene) {
    const row = await scene.row(
      'SELECT l.*, c.business_date, c.record_id, register FROM posted_plu_closing_lines l JOIN posted_plu_closings c USING (location, closing_no) JOIN sync_registers r USING (register_id)',
    )
    await scene.shop.pool.query('UPDATE posted_plu_closing_lines SET quantity = quantity + 1 WHERE (location, closing_no, line_no) = ($1, $2, $3)', [
      row.location,
      row.closing_no,
      row.line_no,
    ])
    await scene.are([], [`${row.business_date} ledger ${row.register} plu_closings ${row.record_id}`], 'a closing line is changed')
  },
}

/** What happens at the tills; when it is settled the proofs are clean again. */
const atTheTill: Readonly<Record<string, Damage>> = {
  async 'a number is missing'(scene) {
    const [day, n] = [DAYS[2] as string, scene.random.int(0, 1)]
    const missing = (scene.last[n] as number) + 1
    const id = scene.sell(n, day, missing + 1)
    await scene.send()
    await scene.are([`NUMBERS_MISSING ${missing}`], [`${day} unclosed POS${n} receipts [${id}]`], 'a number is missing')
    scene.sell(n, day, missing)
    scene.close(n, day)
    await scene.send()
    await scene.are([], [], 'the number has come')
  },
  async 'a document is in quarantine'(scene) {
    const [day, n] = [DAYS[2] as string, scene.random.int(0, 1)]
    scene.state.poison = true
    const id = scene.sell(n, day, undefined, 'POISON')
    await scene.send()
    await scene.are([`QUARANTINED receipts [${id}]`], [`${day} quarantined POS${n} receipts [${id}]`], 'a document is in quarantine')
    scene.close(n, day)
    await scene.send()
    const closing = (scene.machines[n] as Machine).db.prepare('SELECT max(id) FROM plu_closings').pluck().get()
    const waiting = `${day} waiting POS${n} plu_closings [${closing}]`
    await scene.are([`QUARANTINED receipts [${id}]`], [`${day} quarantined POS${n} receipts [${id}]`, waiting], 'and its closing waits')
    scene.state.poison = false
    await scene.shop.central.quarantine.retry({ location: LOCATION })
    await scene.are([], [], 'released')
  },
  async 'the archive is pruned'(scene) {
    await scene.shop.central.prune()
    await scene.are([], [], 'the archive is pruned')
  },
  async 'a register is restored'(scene) {
    const [day, n] = [DAYS[2] as string, scene.random.int(0, 1)]
    const machine = scene.machines[n] as Machine
    const [backup, last] = [machine.backup(), scene.last[n] as number]
    const lost = Array.from({ length: scene.random.int(1, 3) }, () => scene.sell(n, day))
    await scene.send()
    await machine.restore(backup)
    scene.last[n] = last
    const kept = scene.random.int(0, lost.length - 1)
    const numbers = lost.map((_, at) => last + 1 + at)
    await scene.send()
    const orphaned = (ids: readonly number[]) => ids.map((id) => `ORPHANED receipts [${id}]`)
    const unclosed = (ids: readonly number[]) => ids.map((id) => `${day} unclosed POS${n} receipts [${id}]`)
    await scene.are(orphaned(lost), unclosed(lost), 'a register is restored')
    // Entered again under their numbers, some of them.
    for (const number of numbers.slice(0, kept)) scene.sell(n, day, number)
    scene.last[n] = numbers.at(-1) as number
    scene.close(n, day)
    await scene.send()
    await scene.are(orphaned(lost.slice(kept)), [], 'some were entered again; all are closed')
    for (const orphan of await scene.shop.central.orphans.list()) await scene.shop.central.orphans.withdraw(orphan.id, { reason: 'entered again' })
    await scene.are([], [], 'withdrawn')
  },
}

/** Nothing settles it. */
async function twice(scene: Scene): Promise<void> {
  const [day, n] = [DAYS[1] as string, scene.random.int(0, 1)]
  const number = scene.random.int(2, scene.last[n] as number)
  const first = (scene.machines[n] as Machine).db.prepare('SELECT id FROM receipts WHERE number = ?').pluck().get(number) as number | undefined
  if (first === undefined) return
  const id = scene.sell(n, day, number)
  await scene.send()
  await scene.are([`NUMBER_TWICE ${number} [${first}] present, [${id}] present`], [], 'a number is used twice, and closed late')
  ;(scene.machines[n] as Machine).db.exec(
    `DELETE FROM receipt_lines WHERE receipt_id = ${id}; UPDATE receipts SET status = 'voided' WHERE id = ${id}`,
  )
  await scene.send()
  await scene.are([`NUMBER_TWICE ${number} [${first}] present, [${id}] present`], [], 'voided, it is still there twice')
}

async function round(t: Test, random: Random): Promise<void> {
  const scene = await open(t, random)
  await scene.are([], [], 'before anything happens')
  for (const name of random.shuffle(Object.keys(atTheTill)).slice(0, 3)) await (atTheTill[name] as Damage)(scene)
  await backupOf(scene.shop.pool, 'whole')
  for (const damage of random.shuffle(Object.values(byHand))) {
    await damage(scene)
    await restoreFrom(scene.shop.pool, 'whole')
  }
  await twice(scene)
}

t.test('whatever is damaged, the proofs name that, and nothing else', async (t) => {
  for (const n of roundsOfRun(1)) {
    t.comment(`round ${n}: --seed=${seed + n}`)
    await round(t, new Random(seed + n))
    if (!t.passing()) return
  }
})
