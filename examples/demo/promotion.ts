import { count, namesOf } from './display.ts'
import { arrival, isForAll } from './head-office.ts'
import { labelsInWords, type Operators } from './operators.ts'
import type { Scene } from './scene.ts'
import { chosenShop } from './shops.ts'

// A price list for some tills, with dates. Nobody changes a row when it begins or ends.

const MOST = 5

/** Sent ahead: for tomorrow and the day after. */
export async function announce(scene: Scene): Promise<void> {
  const { location, priceGroup } = chosenShop(scene.tills.length)
  const [from, to] = [scene.calendar.day(1), scene.calendar.day(2)]
  const prices = await scene.books.rows(
    `WITH list AS (INSERT INTO price_lists VALUES (1, $2, 'Promotion') RETURNING list_id)
     INSERT INTO price_list_lines SELECT list_id, item_no, round(unit_price * 0.8, 2), $3::date, $4::date
     FROM list, items JOIN assortments USING (item_no) WHERE location = $1 ORDER BY item_no LIMIT ${MOST} RETURNING item_no`,
    ...[location, priceGroup, from, to],
  )
  const seconds = await arrival(scene)
  scene.tell(
    `A promotion for price group ${priceGroup}, from ${from} to ${to}: ${count(prices.length, 'price')}, ${seconds} s later at ${namesOf(scene.tillsOf(location))}.`,
    isForAll(scene) ? 'Nobody is told before it counts.' : 'The other shop gets nothing of it, and nobody is told before it counts.',
  )
}

/** Returns how many entries head office has sent meanwhile. */
export async function beginAndEnd(scene: Scene, operators: Operators): Promise<number> {
  const before = await sealed(scene)
  await night(scene, 1)
  await scene.say(
    `The tills are off for the night. On ${scene.calendar.day()} the promotion begins: ${labelsInWords(await operators.look(), scene)}.`,
    'No row has changed: the till looks at the dates, and says which labels the shelves need now.',
  )
  await night(scene, 2)
  const told = await operators.look()
  const sent = (await sealed(scene)) - before
  await scene.say(
    `Two days off, and on ${scene.calendar.day()} it is over: ${labelsInWords(told, scene)}.`,
    `The regular prices count again, and head office has sent ${count(sent, 'entry')} for all that.`,
  )
  return sent
}

/** Every till is switched off, and on again some days later. */
async function night(scene: Scene, days: number): Promise<void> {
  await Promise.all(scene.tills.map((till) => till.end()))
  scene.calendar.pass(days)
  for (const till of scene.tills) till.start()
  await scene.until(() => scene.tills.every((till) => till.ready))
}

function sealed(scene: Scene): Promise<number> {
  return scene.books.count('SELECT coalesce(sum(head_no), 0) FROM sync_audiences')
}
