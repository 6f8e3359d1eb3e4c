import { styleText } from 'node:util'
import Big from 'big.js'
import Table from 'cli-table3'
import { claimsOf } from './claims.ts'
import { number } from './display.ts'
import type { Proof } from './proof.ts'
import type { Stage, Tally } from './proof-lines.ts'

const NAMED = 10

/** Prints the proof, and says whether it holds. */
export function printProof(proof: Proof): boolean {
  console.log(`\n${styleText('bold', 'What was sold (by the input, not by the tills) and what head office has of it')}`)
  console.log(stagesTable(proof))
  console.log(styleText('bold', 'The closings that head office has posted'))
  console.log(closingsTable(proof))
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
  for (const { closingNo, register, supplements, lines, units, anonymous, customers, net } of closings.shown) {
    const what = `${names.get(register)}${supplements === undefined ? '' : `, supplements ${supplements}`}`
    const amounts = [anonymous, customers, net].map((amount) => decimal(new Big(amount), 2))
    table.push([String(closingNo), what, number(lines), decimal(new Big(units)), ...amounts])
  }
  return table.toString()
}

function createTable(texts: readonly string[], numbers: readonly string[]): InstanceType<typeof Table> {
  return new Table({
    head: [...texts, ...numbers],
    colAligns: [...texts.map(() => 'left' as const), ...numbers.map(() => 'right' as const)],
    style: { head: [], border: styleText('grey', '') === '' ? [] : ['grey'], compact: true },
  })
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

function mark(value: number | string, expected: number | string): string {
  const text = typeof value === 'number' ? number(value) : value
  return value === expected ? text : styleText('red', text)
}

/** Exact, with at least `places` decimals. */
function decimal(value: Big | undefined, places = 0): string {
  const text = value?.toFixed() ?? '0'
  const decimals = text.split('.')[1]?.length ?? 0
  return new Intl.NumberFormat('en', { minimumFractionDigits: Math.max(places, decimals) }).format(text as unknown as number)
}
