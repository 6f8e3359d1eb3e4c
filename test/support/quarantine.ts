import type { Pool } from 'pg'
import type { AppliedDocument } from '../../src/apply/document-set.ts'
import type { ApplyContext, Handler } from '../../src/apply/handler.ts'
import { type CentralEvents, stockMovements } from '../../src/index.ts'
import type { Work } from '../../src/work.ts'
import type { Line } from './sales.ts'
import { movementsAt, type Shop } from './shop.ts'

export const line = (item: string, quantity = '1', amount = '10.00'): Line => ({ item, quantity, amount })

/** stockMovements() that refuses what names the item POISON, until it is mended. */
export function poisoned() {
  const state = { mended: false, calls: 0 }
  const movements = movementsAt('BA01')
  return {
    state,
    handler: stockMovements((receipt) => {
      state.calls++
      if (!state.mended && receipt.parts.receipt_lines?.some((one) => one.item_no === 'POISON')) throw new Error('the item is poison')
      return movements(receipt)
    }),
  }
}

/** A handler that does what a test wants. */
export function handlerOf(apply: (documents: readonly AppliedDocument[], context: ApplyContext) => Work<void>, face: Partial<Handler> = {}): Handler {
  return { name: 'test', tables: [], *check() {}, apply, *withdraw() {}, ...face }
}

export function itemsOf(document: AppliedDocument): unknown[] {
  return document.removed ? [] : (document.value.parts.receipt_lines ?? []).map((one) => one.item_no)
}

export async function count(pool: Pool, table: string, where = 'true'): Promise<number> {
  return Number((await pool.query(`SELECT count(*) AS n FROM ${table} WHERE ${where}`)).rows[0].n)
}

export function eventsOf(shop: Shop) {
  const events: { quarantined: CentralEvents['quarantined'][]; released: CentralEvents['released'][]; refused: CentralEvents['refused'][] } = {
    quarantined: [],
    released: [],
    refused: [],
  }
  shop.central.on('quarantined', (event) => events.quarantined.push(event))
  shop.central.on('released', (event) => events.released.push(event))
  shop.central.on('refused', (event) => events.refused.push(event))
  return events
}
