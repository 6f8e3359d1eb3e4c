import { setTimeout as sleep } from 'node:timers/promises'
import { count } from './display.ts'
import { randomOf } from './generator.ts'
import { type Ordered, placeOrders } from './orders.ts'
import type { Scene } from './scene.ts'
import { registerName } from './shops.ts'

// What goes wrong while the tills sell.

/** Returns what the tills order meanwhile. */
export async function outage(scene: Scene): Promise<Ordered['entered']> {
  await scene.until(() => scene.sold >= 0.15)
  const before = scene.receipts
  const began = performance.now()
  scene.line?.cut()
  const entered = await placeOrders(scene)
  scene.tell('The line to head office is cut.', 'The tills go on selling, and each orders from the warehouse; all that waits in their own databases.')
  await scene.until(() => scene.sold >= 0.4 && performance.now() - began > 1_500)
  const waiting = scene.tills.reduce((total, till) => total + till.view.pending, 0)
  scene.line?.mend()
  const seconds = ((performance.now() - began) / 1_000).toFixed(1)
  scene.tell(
    `The line is back after ${seconds} s.`,
    `${count(scene.receipts - before, 'receipt')} sold without it; ${count(waiting, 'entry')} pending.`,
  )
  await scene.until(() => scene.tills.every((till) => till.caughtUp))
  scene.tell('Head office has caught up.', 'Nobody had to press a button.')
  return entered
}

export async function crash(scene: Scene): Promise<void> {
  const till = scene.till(1)
  await scene.until(() => scene.sold >= 0.55)
  await sleep(randomOf(scene.options.seed)() * 250)
  const middle = till.view.sold < till.view.total ? ' in the middle of selling' : ''
  await till.kill()
  scene.tell(`${till.name} is killed (SIGKILL)${middle}.`, `It could finish nothing.${scene.tills.length > 1 ? ' The others sell on.' : ''}`)
  await sleep(2_000)
  till.start()
  await scene.until(() => till.ready)
  const next = till.found < till.view.total ? `, and sells on with number ${till.found + 1}` : ''
  scene.tell(`${till.name} is back.`, `It finds ${count(till.found, 'committed receipt')} in its own database${next}.`)
}

/** Returns how many rows head office has booked of the receipt: none, while it waits. */
export async function quarantine(scene: Scene): Promise<number> {
  const { till, receiptNo } = scene.story.wrongTotal
  const register = registerName(till)
  await scene.until(() => scene.quarantined.has(register))
  scene.tell(
    `A bug: ${scene.till(till).name} prints a wrong total on ${receiptNo}.`,
    `It alone waits in quarantine (${scene.quarantined.get(register)}); all others are booked.`,
  )
  return scene.books.count(
    `SELECT (SELECT count(*) FROM stock_movements JOIN sync_registers USING (register_id) WHERE register = $1 AND document_no = $2)
          + (SELECT count(*) FROM receipts WHERE register = $1 AND receipt_no = $2)`,
    register,
    receiptNo,
  )
}

export async function exportAll(scene: Scene): Promise<void> {
  const till = scene.till(2)
  await scene.until(() => scene.sold >= 0.75)
  till.exportAll()
  await scene.until(() => till.exported !== undefined)
  const { documents = 0, entries = 0 } = till.exported ?? {}
  scene.tell(
    `${till.name} sends everything again:`,
    `${count(documents, 'receipt')}, ${count(entries, 'entry')}. Head office must book none of them twice.`,
  )
}
