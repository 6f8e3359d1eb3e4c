import { styleText } from 'node:util'
import Big from 'big.js'
import { createTable, mark } from './cells.ts'
import { claimsOf } from './claims.ts'
import { number } from './display.ts'
import type { Proof } from './proof.ts'
import type { Stage, Tally } from './proof-lines.ts'
import { copiesTable, toldTable } from './proof-tills.ts'

const NAMED = 10

/** Prints the proof, and says whether it holds. */
export function printProof(proof: Proof): boolean {
  console.log(`\n${styleText('bold', 'What was sold (by the input, not by the tills) and what head office has of it')}`)
  console.log(stagesTable(proof))
  console.log(styleText('bold', 'The closings that head office has posted'))
  console.log(closingsTable(proof))
  console.log(styleText('bold', 'The rows that head office has for each till, by its filters, and those that the till has'))
  console.log(copiesTable(proof))
  console.log(styleText('bold', 'What the operators of the tills were told'))
  console.log(toldTable(proof))
  const claims = claimsOf(proof)
  for (const { holds, text, named = [] } of claims) {
    console.log(`${holds ? styleText('green', '✓') : styleText('red', '✗')} ${text}`)
    for (const name of named.slice(0, NAMED)) console.log(`    ${name}`)
    if (named.length > NAMED) console.log(`    … and ${named.length - NAMED} more`)
  }
  return claims.every(({ holds }) => holds)
}

function stagesTable({ stages, tills }: Proof): string {
  const table = createTable(['', ''], ['receipts', 'lines', 'units', 'net amount', 'missing', 'duplicates'])
  const [sold] = stages
  for (const { register, name } of [...tills, { register: '', name: 'Total' }]) {
    const expected = tallyOf(sold, register)
    for (const [n, stage] of stages.entries()) {
      const of = (keys: readonly string[]) => keys.filter((key) => register === '' || key.startsWith(`${register} `)).length
      const counted = stage === sold ? ['', ''] : [mark(of(stage.missing), 0), mark(of(stage.doubled), 0)]
      const cells = [stage.name, ...cellsOf(tallyOf(stage, register), expected), ...counted]
      table.push(n === 0 ? [{ content: styleText('bold', name), rowSpan: stages.length }, ...cells] : cells)
    }
  }
  return table.toString()
}

function closingsTable({ closings, tills }: Proof): string {
  const table = createTable(['closing', ''], ['lines', 'units', 'anonymous', 'customers', 'net amount'])
  const names = new Map(tills.map(({ register, name }) => [register, name]))
  for (const { location, closingNo, register, supplements, lines, units, anonymous, customers, net } of closings.shown) {
    const what = `${names.get(register)}${supplements === undefined ? '' : `, supplements ${supplements}`}`
    const amounts = [anonymous, customers, net].map((amount) => decimal(new Big(amount), 2))
    table.push([`${location} ${closingNo}`, what, number(lines), decimal(new Big(units)), ...amounts])
  }
  return table.toString()
}

function tallyOf(stage: Stage | undefined, register: string): Tally | undefined {
  return register === '' ? stage?.total : stage?.registers.get(register)
}

function cellsOf(tally: Tally | undefined, expected: Tally | undefined): string[] {
  return [
    mark(tally?.receipts ?? 0, expected?.receipts ?? 0),
    mark(tally?.lines ?? 0, expected?.lines ?? 0),
    mark(decimal(tally?.units), decimal(expected?.units)),
    mark(decimal(tally?.amount, 2), decimal(expected?.amount, 2)),
  ]
}

/** Exact, with at least `places` decimals. */
function decimal(value: Big | undefined, places = 0): string {
  const text = value?.toFixed() ?? '0'
  const decimals = text.split('.')[1]?.length ?? 0
  return new Intl.NumberFormat('en', { minimumFractionDigits: Math.max(places, decimals) }).format(text as unknown as number)
}
