import { setTimeout as sleep } from 'node:timers/promises'
import { count, namesOf } from './display.ts'
import { BAG } from './items.ts'
import { labelsInWords, type Operators } from './operators.ts'
import { compareCopies, differencesOf } from './proof-published.ts'
import type { Scene } from './scene.ts'
import { chosenShop, shopsOf } from './shops.ts'

// What head office does while the tills sell.

const PATIENCE_MS = 30_000
const LOOK_MS = 100

export async function firstItems(scene: Scene, operators: Operators): Promise<void> {
  await arrival(scene)
  const told = await operators.look()
  const shops = shopsOf(scene.tills.length).map(
    ({ location, assortment }) => `${location} (${namesOf(scene.tillsOf(location))}) has room for ${assortment}`,
  )
  scene.tell(`Each till has the items of its shop from head office: ${labelsInWords(told, scene)}.`, `${shops.join(', ')}.`)
}

/** What head office has changed since. */
export async function printLabels(scene: Scene, operators: Operators): Promise<void> {
  const told = await operators.look()
  const orders = told.flatMap(({ listed }) => listed.filter(({ kind }) => kind.startsWith('internal_orders')))
  scene.tell(
    `The tills tell their operators: ${labelsInWords(told, scene)}.`,
    `And ${count(orders.length, 'order')} confirmed. Each notice stays until it is acknowledged; now they are.`,
  )
}

export async function changePrices(scene: Scene): Promise<void> {
  const changed = await scene.books.rows(`
    UPDATE items SET unit_price = unit_price + 0.10 WHERE item_no IN (SELECT item_no FROM items ORDER BY item_no LIMIT (SELECT (count(*) + 1) / 2 FROM items))
    RETURNING item_no`)
  const seconds = await arrival(scene)
  scene.tell(
    `Head office changes ${count(changed.length, 'price')}; ${seconds} s later the tills have them.`,
    'Each till gets those of what its shop has and nothing else, and goes on selling meanwhile.',
  )
}

export async function dropItem(scene: Scene): Promise<void> {
  const { location } = chosenShop(scene.tills.length)
  await scene.books.rows('DELETE FROM assortments WHERE location = $1 AND item_no = $2', location, BAG.itemNo)
  await arrival(scene)
  scene.tell(
    `'${BAG.description}' leaves the assortment of ${location}, and disappears at ${namesOf(scene.tillsOf(location))}.`,
    `The item itself is not deleted${isForAll(scene) ? '' : ', and the other shop keeps it'}: it has left the filter of these tills.`,
  )
}

/** Whether there is but one shop to choose from. */
export function isForAll(scene: Scene): boolean {
  return shopsOf(scene.tills.length).length === 1
}

/** Waits until the tills have what head office has for them, but not for ever: what is missing is said by the proof. Returns the seconds. */
export async function arrival(scene: Scene): Promise<string> {
  const began = performance.now()
  await scene.until(async () => {
    const copies = await compareCopies(scene.books, scene.tills)
    if (copies.flatMap(differencesOf).length === 0 || performance.now() - began > PATIENCE_MS) return true
    await sleep(LOOK_MS)
    return false
  })
  return ((performance.now() - began) / 1_000).toFixed(1)
}
