import { styleText } from 'node:util'
import type Big from 'big.js'
import Table from 'cli-table3'
import { count, number } from './display.ts'
import type { Proof, Stage, Tally } from './proof.ts'

const NAMED = 10

/** Prints the proof, and says whether it holds. */
export function printProof(proof: Proof, names: ReadonlyMap<string, string>): boolean {
  console.log(`\n${styleText('bold', 'What was sold (by the input, not by the tills) and what head office has of it')}`)
  console.log(tableOf(proof, names))
  const claims = claimsOf(proof)
  for (const { holds, text, named = [] } of claims) {
    console.log(`${holds ? styleText('green', '✓') : styleText('red', '✗')} ${text}`)
    for (const name of named.slice(0, NAMED)) console.log(`    ${name}`)
    if (named.length > NAMED) console.log(`    … and ${named.length - NAMED} more`)
  }
  return claims.every(({ holds }) => holds)
}

function tableOf({ stages }: Proof, names: ReadonlyMap<string, string>): string {
  const table = new Table({
    head: ['', '', 'receipts', 'lines', 'units', 'net amount', 'missing', 'duplicates'],
    colAligns: ['left', 'left', 'right', 'right', 'right', 'right', 'right', 'right'],
    style: { head: [], border: styleText('grey', '') === '' ? [] : ['grey'], compact: true },
  })
  const [sold] = stages
  for (const [register, name] of [...names, ['', 'Total'] as const]) {
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

interface Claim {
  readonly holds: boolean
  readonly text: string
  readonly named?: readonly string[]
}

function claimsOf({ stages, entries, again, levels }: Proof): readonly Claim[] {
  const total = stages[0]?.total
  const wrong = stages.flatMap(({ name, missing, doubled, different }) => [
    ...missing.map((line) => `missing in ${name}: ${line}`),
    ...doubled.map((line) => `too much in ${name}: ${line}`),
    ...different.map((line) => `other values in ${name}: ${line}`),
  ])
  const compared = `${count(total?.lines ?? 0, 'line')} compared one by one`
  return [
    wrong.length === 0
      ? { holds: (total?.lines ?? 0) > 0, text: `Sold = archived = mirrored = moved: ${compared}, 0 missing, 0 duplicates` }
      : { holds: false, text: `${compared}, ${count(wrong.length, 'difference')}:`, named: wrong },
    {
      holds: entries.sealed === entries.archived,
      text: `${count(entries.sealed, 'entry')} sealed by the tills, ${number(entries.archived)} archived at head office`,
    },
    {
      holds: again.movements === 0,
      text: `${count(again.documents, 'receipt')} came a second time by the re-export, ${count(again.movements, 'movement')} posted for it`,
    },
    { holds: levels.wrong.length === 0, text: `The stock of ${count(levels.items, 'article')} is what the sales leave`, named: levels.wrong },
  ]
}
