import type { Claim } from './claims.ts'
import { count, number } from './display.ts'
import type { Proof } from './proof.ts'
import { differencesOf } from './proof-published.ts'

/** One for each promise about what head office sends to the tills. */
export function claimsOfTills(proof: Proof): readonly Claim[] {
  return [tillsHaveTheirs(proof), ordersAreInStep(proof), operatorsWereTold(proof), datesSufficed(proof)]
}

function tillsHaveTheirs({ copies, tills }: Proof): Claim {
  const rows = copies.reduce((total, { wanted }) => total + wanted, 0)
  const tables = new Set(copies.map(({ table }) => table)).size
  const named = copies.flatMap(differencesOf)
  return {
    holds: rows > 0 && named.length === 0,
    text: `What head office has for each till is what the till has: ${count(rows, 'row')} of ${count(tables, 'table')} at ${count(tills.length, 'till')} compared, ${count(named.length, 'difference')}`,
    named,
  }
}

function ordersAreInStep({ orders: { orders, lines, wrong }, tills }: Proof): Claim {
  return {
    holds: orders === tills.length && lines > 0 && wrong.length === 0,
    text: `${count(orders, 'internal order')} of ${count(tills.length, 'till')}: ${count(lines, 'line')} as the till entered and head office confirmed them, at both ends`,
    named: wrong,
  }
}

function operatorsWereTold({ seen: { told } }: Proof): Claim {
  const sum = (of: (one: Proof['seen']['told'][number]) => number) => told.reduce((total, one) => total + of(one), 0)
  const named = told.flatMap(({ register, missing, tooMuch }) => [
    ...missing.map((text) => `not told at ${register}: ${text}`),
    ...tooMuch.map((text) => `told at ${register}, though it was not due: ${text}`),
  ])
  const due = sum((one) => one.due.length)
  return {
    holds: due > 0 && named.length === 0,
    text: `Operators were told what had changed for them: ${count(due, 'value')} due, ${number(sum((one) => one.listed.length))} told, ${count(
      sum((one) => one.labels.length),
      'shelf label',
    )} to print, ${count(named.length, 'difference')}`,
    named,
  }
}

function datesSufficed({ seen: { told, sentByNight } }: Proof): Claim {
  const of = (kind: string) => told.reduce((total, { listed }) => total + listed.filter((one) => one.kind === `price_list_lines ${kind}`).length, 0)
  const [begun, ended] = [of('starts'), of('ends')]
  return {
    holds: begun > 0 && begun === ended && sentByNight === 0,
    text: `The promotion began and ended by its dates: ${count(begun, 'notice')} on the first day, ${number(ended)} on the day after the last, ${count(sentByNight, 'entry')} sent meanwhile`,
  }
}
