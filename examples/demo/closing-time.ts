import { count } from './display.ts'
import type { Audited } from './messages.ts'
import { readFirstClosings } from './proof-closings.ts'
import type { Scene } from './scene.ts'
import { registerName } from './shops.ts'

// What happens when all is sold. After each step head office has all that came of it.

/** What was seen in head office's database when the tills had closed. */
export interface Closed {
  /** By the receipt with the wrong total: how many closings its till has while it waits. */
  readonly heldBack: number
  /** What audit and reconciliation named then. */
  readonly audited: Audited
}

export async function takeBack(scene: Scene): Promise<void> {
  const { takenBack } = scene.story
  if (takenBack === undefined) return
  const { sale, till, by } = takenBack
  const [line] = sale.lines
  await scene.perform(scene.till(by), { type: 'take back', sale })
  await scene.say(
    `${scene.till(by).name} takes back what ${scene.till(till).name} has sold: ${line?.quantity.slice(1)} × ${line?.description}.`,
    `It left the stock of ${scene.till(till).shop.location} and comes into that of ${scene.till(by).shop.location}.`,
  )
}

export async function closeDay(scene: Scene): Promise<Closed> {
  await Promise.all(scene.tills.map((till) => scene.perform(till, { type: 'close' })))
  const posted = await scene.books.count('SELECT count(*) FROM posted_plu_closings')
  const { till, receiptNo } = scene.story.wrongTotal
  await scene.say(
    'The tills close their day: each says which receipts, by number.',
    `Head office adds them up by article, VAT and customer: ${count(posted, 'closing')} posted; ${scene.till(till).name}'s waits for ${receiptNo}.`,
  )
  const heldBack = await scene.books.count(
    'SELECT count(*) FROM posted_plu_closings JOIN sync_registers USING (register_id) WHERE register = $1',
    registerName(till),
  )
  const audited = await scene.audit()
  await scene.say(
    `audit() and reconcile() find: ${[...audited.findings, ...audited.differences].join('; ')}.`,
    'Nothing is lost in silence: what waits and what is missing has a name.',
  )
  return { heldBack, audited }
}

/** Returns the closings of the day as they were posted, by number. */
export async function mend(scene: Scene): Promise<ReadonlyMap<string, string>> {
  const { till, receiptNo } = scene.story.wrongTotal
  await scene.perform(scene.till(till), { type: 'mend', receiptNo })
  await scene.say(
    `The total of ${receiptNo} is mended at ${scene.till(till).name}.`,
    'Its new version leaves quarantine by itself and is booked, and the closing that waited for it is posted.',
  )
  return readFirstClosings(scene.books)
}

export async function takePayment(scene: Scene): Promise<void> {
  const { leftOpen } = scene.story
  if (leftOpen === undefined) return
  const till = scene.till(leftOpen.till)
  await scene.perform(till, { type: 'take payment', receiptNo: leftOpen.receiptNo })
  await scene.say(
    `A late receipt: ${till.name} closed while ${leftOpen.receiptNo} was not paid; now it is.`,
    'What is posted is never changed: a supplementary closing of the same day holds the late receipt.',
  )
}

export async function correct(scene: Scene): Promise<void> {
  const { correction } = scene.story
  const till = scene.till(correction.till)
  const businessDate = scene.options.shares[correction.till]?.find(({ receiptNo }) => receiptNo === correction.receiptNo)?.soldAt.slice(0, 10) ?? ''
  await scene.perform(till, { type: 'correct', ...correction })
  const { exported } = await scene.perform(till, { type: 'export day', businessDate })
  await scene.say(
    `${till.name} corrects a quantity of ${correction.receiptNo} and sends its whole day again: ${count(exported?.documents ?? 0, 'receipt')}.`,
    'Head office posts the difference alone: one movement, one supplementary closing.',
  )
}
