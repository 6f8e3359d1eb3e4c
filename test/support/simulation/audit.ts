import { Break } from '../differential/break.ts'
import { archivedNames, checkLedger, mirrored, posted } from './books.ts'
import { settle } from './calm.ts'
import { checkAlike } from './comparisons.ts'
import { checkOrders, checkSubscribed } from './downward.ts'
import type { Machine } from './machine.ts'
import { checkMended, replayIdly } from './replays.ts'
import { documentSale, less, type Moved, movedBy, type Sale, textOf } from './sale.ts'
import { checkTraces } from './traces.ts'
import type { Seat, World } from './world.ts'

const NOTHING: Moved = new Map()

/** All that is promised, once nothing moves any more; before the orphans are withdrawn, and after. */
export async function audit(world: World, live: ReadonlyMap<Seat, Machine>): Promise<void> {
  const { central, pool } = world.office
  await checkLedger(world.office)
  const wanted = await pool.query("SELECT table_name, record_id FROM sync_documents WHERE state = 'wanted'")
  if (wanted.rowCount !== 0) throw new Break('wanted', `Asked for for ever: ${JSON.stringify(wanted.rows)}`)
  // Where a till was set up anew and has sent nothing yet, what its former database had begun to send stays until it does.
  const staged = await pool.query('SELECT f.* FROM sync_frames f JOIN sync_registers USING (register_id, epoch_no) WHERE NOT reset')
  if (staged.rowCount !== 0) throw new Break('staged', `Left of a document that came in frames: ${staged.rowCount}`)
  const epochs = await pool.query('SELECT register_id, count(*)::int AS epochs FROM sync_epochs GROUP BY 1 HAVING count(*) > 1')
  if (!world.parts && epochs.rowCount !== 0)
    throw new Break('parted', `Nothing has parted a history, and epochs began: ${JSON.stringify(epochs.rows)}`)
  for (const [seat, machine] of live) await checkSeat(world, seat, await machine.sales())
  if (world.subscribes) for (const [seat, machine] of live) await checkSubscribed(world, seat, machine)
  if (world.isMended) await checkMended(world.office)
  for (const [seat, machine] of live) await checkAlike(world, seat, machine)
  for (const { id } of await central.orphans.list({ limit: 1_000 })) await central.orphans.withdraw(id, { reason: 'audit' })
  await checkLedger(world.office)
  if (world.isMended) await replayIdly(world.office)
  for (const [seat, machine] of live) await checkSeat(world, seat, await machine.sales())
  if (!world.subscribes) return
  for (const [seat, machine] of live) {
    await settle(world, seat, machine)
    await checkOrders(world, seat, machine)
  }
}

async function checkSeat({ office }: World, seat: Seat, all: readonly Sale[]): Promise<void> {
  const there = all.filter(({ status }) => status !== 'open')
  const mirror = new Map((await mirrored(office.pool, seat.name)).map((sale) => [sale.id, sale]))
  for (const sale of there) {
    const copy = mirror.get(sale.id)
    if (JSON.stringify(copy) !== JSON.stringify(sale))
      throw new Break('mirror', `The till has ${JSON.stringify(sale)}, central ${JSON.stringify(copy)}`)
  }
  await checkTraces(office, seat.name, there)
  const orphans = await office.central.orphans.list({ ...seat.name, table: 'receipts', limit: 1_000 })
  const settled = new Set<string>()
  for (const state of ['returned', 'withdrawn'] as const)
    for (const { document } of await office.central.orphans.list({ ...seat.name, table: 'receipts', state, limit: 1_000 }))
      settled.add(documentSale(document).customer_no)
  const listed = Map.groupBy(
    orphans.map(({ document }) => documentSale(document)),
    ({ customer_no }) => customer_no,
  )
  const ledger = await posted(office.pool, seat.name)
  const archived = await archivedNames(office.pool, seat.name)
  for (const name of new Set([...seat.known.keys(), ...ledger.keys(), ...archived])) {
    const sale = there.find(({ customer_no }) => customer_no === name)
    const lost = listed.get(name) ?? []
    const due = [...(sale ? [sale] : []), ...lost].map(movedBy)
    const rest = due.reduce(less, ledger.get(name) ?? NOTHING)
    const told = `${name}: posted ${textOf(ledger.get(name) ?? NOTHING)}, the till has ${JSON.stringify(sale)}, orphans ${JSON.stringify(lost)}`
    if (rest.size > 0) checkRest(seat, name, sale, rest, told)
    const isAccounted = sale !== undefined || lost.length > 0 || settled.has(name) || seat.deleted.has(name) || seat.isReset
    if (archived.has(name) && !isAccounted) throw new Break('unaccounted', told)
  }
}

/** What is neither of a sale that stands nor of an orphan: of one that was deleted at the till, which takes nothing back. */
function checkRest(seat: Seat, name: string, sale: Sale | undefined, rest: Moved, told: string): void {
  if (sale !== undefined && !seat.isReset && !seat.deleted.has(name)) throw new Break('ledger', told)
  if (!seat.isReset && !seat.deleted.has(name)) throw new Break('ledger', told)
  // Each of its lives that ended once, at most.
  const lives = Math.max(1, (seat.ends.get(name) ?? 0) + (seat.isReset ? 1 : 0))
  const versions = [...(seat.moved.get(name) ?? [])].map((text): Moved => new Map(JSON.parse(text) as [string, number][]))
  if (!isSumOf(rest, versions, lives)) throw new Break('doubled', told)
}

/** Whether it is the sum of at most so many of these. */
function isSumOf(rest: Moved, versions: readonly Moved[], most: number): boolean {
  return rest.size === 0 || (most > 0 && versions.some((version) => version.size > 0 && isSumOf(less(rest, version), versions, most - 1)))
}
