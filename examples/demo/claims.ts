import Big from 'big.js'
import { claimsOfTills } from './claims-tills.ts'
import { count, number } from './display.ts'
import type { Proof } from './proof.ts'

export interface Claim {
  readonly holds: boolean
  readonly text: string
  /** What speaks against it. */
  readonly named?: readonly string[]
}

/** One for each promise. */
export function claimsOf(proof: Proof): readonly Claim[] {
  return [
    allArrived(proof),
    allArchived(proof),
    onlyDifferences(proof),
    stockIsRight(proof),
    ...takenBack(proof),
    closingsAddUp(proof),
    closingsStand(proof),
    keptFromTheBooks(proof),
    numbersAreWhole(proof),
    auditAgrees(proof),
    booksAreReconciled(proof),
    ...claimsOfTills(proof),
  ]
}

function allArrived({ stages }: Proof): Claim {
  const lines = stages[0]?.total.lines ?? 0
  const named = stages.flatMap(({ name, missing, doubled, different }) => [
    ...missing.map((line) => `missing in ${name}: ${line}`),
    ...doubled.map((line) => `too much in ${name}: ${line}`),
    ...different.map((line) => `other values in ${name}: ${line}`),
  ])
  const compared = `${count(lines, 'line')} compared one by one`
  if (named.length > 0) return { holds: false, text: `${compared}, ${count(named.length, 'difference')}:`, named }
  return { holds: lines > 0, text: `Sold = archived = mirrored = moved: ${compared}, 0 missing, 0 duplicates` }
}

function allArchived({ entries }: Proof): Claim {
  return {
    holds: entries.sealed === entries.archived,
    text: `${count(entries.sealed, 'entry')} sealed by the tills, ${number(entries.archived)} archived at head office`,
  }
}

function onlyDifferences({ again: { versions, movements } }: Proof): Claim {
  return {
    holds: versions > 0 && movements === 1,
    text: `Receipts came again ${count(versions, 'time')}, once with a corrected quantity: ${count(movements, 'movement')} posted for it, the difference`,
  }
}

function stockIsRight({ levels, tills }: Proof): Claim {
  const shops = new Set(tills.map(({ shop }) => shop)).size
  return {
    holds: levels.wrong.length === 0,
    text: `${count(levels.items, 'stock level')} in ${count(shops, 'shop')} are what the sales leave`,
    named: levels.wrong,
  }
}

function takenBack({ takenBack: moved, story, tills }: Proof): readonly Claim[] {
  if (moved === undefined || story.takenBack === undefined) return []
  const { till, by } = story.takenBack
  const { movements, units, amount } = moved
  return [
    {
      holds: movements === 2 && units.eq(0) && amount.eq(0),
      text: `Sold by ${tills[till]?.name}, taken back by ${tills[by]?.name}: ${count(movements, 'movement')}, together ${units.toFixed()} units and ${amount.toFixed(2)}`,
    },
  ]
}

function closingsAddUp({ closings: { compared, different, unmoved } }: Proof): Claim {
  return {
    holds: compared > 0 && different.length === 0 && unmoved.length === 0,
    text: `Closings = the tills' receipts = what moved: ${count(compared, 'sum')} by till, article, VAT and customer compared, ${count(different.length + unmoved.length, 'difference')}`,
    named: [...different.map((key) => `not what the till sold: ${key}`), ...unmoved.map((key) => `not what moved: ${key}`)],
  }
}

/** One each for the late receipt and the correction. */
function closingsStand({ closings: { shown, made, changed }, story, seen }: Proof): Claim {
  const supplements = shown.filter((closing) => closing.supplements !== undefined).length
  const late = story.leftOpen === undefined ? 1 : 2
  const shops = [...Map.groupBy(shown, ({ location }) => location).values()]
  const contiguous = shops.every((closings) => closings.every(({ closingNo }, n) => closingNo === n + 1))
  return {
    holds: seen.firstClosings.size === made && shown.length - supplements === made && supplements === late && contiguous && changed.length === 0,
    text: `${count(made, 'closing')} of the day: ${number(made - changed.length)} as they were posted; what came later is in ${count(supplements, 'supplementary closing')}; numbers: ${shops.map((closings) => `${closings[0]?.location} 1 to ${number(closings.length)}`).join(', ')}`,
    named: changed.map((closingNo) => `changed since, or gone: closing ${closingNo}`),
  }
}

function keptFromTheBooks({ seen, waiting, story, tills }: Proof): Claim {
  const { till, receiptNo } = story.wrongTotal
  return {
    holds: seen.booked === 0 && seen.heldBack === 0 && waiting === 0,
    text: `While the total of ${receiptNo} was wrong, ${number(seen.booked)} rows of it were booked and ${tills[till]?.name} had ${count(seen.heldBack, 'closing')}; now ${number(waiting)} documents wait`,
  }
}

function numbersAreWhole({ numbers: { series, wrong }, tills }: Proof): Claim {
  return {
    holds: series >= tills.length && wrong.length === 0,
    text: `Receipts are numbered 1, 2, 3 … in ${number(series)} series of ${count(tills.length, 'till')}, none missing`,
    named: wrong.map((one) => `not without a gap: ${one}`),
  }
}

/** The library's own word, at the closing and now. */
function auditAgrees({ seen, openAtClosing, audited, entries }: Proof): Claim {
  const found = [...seen.audited.findings, ...seen.audited.differences]
  const named = [
    ...openAtClosing.filter((open) => !found.includes(open)).map((open) => `not found at the closing: ${open}`),
    ...found.filter((one) => !openAtClosing.includes(one)).map((one) => `found at the closing, though there was none: ${one}`),
    ...audited.findings.map((one) => `found: ${one}`),
  ]
  return {
    holds: named.length === 0 && audited.archived === entries.archived,
    text: `audit() and reconcile() named at the closing what was open; now audit() proves ${count(audited.archived, 'entry')} by their digests and finds ${number(audited.findings.length)}`,
    named,
  }
}

function booksAreReconciled({ audited: { differences, closed }, stages }: Proof): Claim {
  const total = closed.reduce((sum, amount) => sum.plus(amount), new Big(0))
  const sold = stages[0]?.total.amount ?? new Big(0)
  return {
    holds: differences.length === 0 && total.eq(sold),
    text: `reconcile() finds ${count(differences.length, 'difference')} between receipts, closings and movements; by its account ${total.toFixed(2)} are closed, and sold were ${sold.toFixed(2)}`,
    named: differences,
  }
}
