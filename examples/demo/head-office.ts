import { setTimeout as sleep } from 'node:timers/promises'
import { count } from './display.ts'
import { assortmentOf, BAG, proveItems } from './items.ts'
import type { Scene } from './scene.ts'

// What head office does while the tills sell.

const PATIENCE_MS = 30_000
const LOOK_MS = 100

export async function changePrices(scene: Scene): Promise<void> {
  const changed = await scene.books.rows(`
    UPDATE items SET unit_price = unit_price + 0.10 WHERE item_no IN (SELECT item_no FROM items ORDER BY item_no LIMIT (SELECT (count(*) + 1) / 2 FROM items))
    RETURNING item_no`)
  const seconds = await arrival(scene)
  scene.tell(
    `Head office changes ${count(changed.length, 'price')}; ${seconds} s later the tills have them.`,
    'Each till gets what belongs to its assortment and nothing else, and goes on selling meanwhile.',
  )
}

export async function dropItem(scene: Scene): Promise<void> {
  const assortment = assortmentOf(scene.tills.length > 1 ? 1 : 0)
  await scene.books.rows('DELETE FROM assortments WHERE assortment = $1 AND item_no = $2', assortment, BAG.itemNo)
  await arrival(scene)
  const names = scene.tills.filter((_, n) => assortmentOf(n) === assortment).map(({ name }) => name)
  scene.tell(
    `'${BAG.description}' leaves the ${assortment} assortment, and disappears at ${names.join(', ')}.`,
    'The item itself is not deleted: it has left the filter of these tills.',
  )
}

/** Waits until the tills have what head office has for them, but not for ever: what is missing is said by the proof. Returns the seconds. */
export async function arrival(scene: Scene): Promise<string> {
  const began = performance.now()
  await scene.until(async () => {
    const { different } = await proveItems(scene.books, scene.tills)
    if (different.length === 0 || performance.now() - began > PATIENCE_MS) return true
    await sleep(LOOK_MS)
    return false
  })
  return ((performance.now() - began) / 1_000).toFixed(1)
}
