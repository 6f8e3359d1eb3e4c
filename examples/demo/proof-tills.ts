import { createTable, mark } from './cells.ts'
import { number } from './display.ts'
import type { Proof } from './proof.ts'
import type { Copy } from './proof-published.ts'

/** Of each till: the rows that head office has for it, and those that it has, by table. */
export function copiesTable({ copies, tills }: Proof): string {
  const names = [...new Set(copies.map(({ table }) => table))]
  const table = createTable(['', ''], [...names.map((name) => name.replaceAll('_', '\n')), 'missing', 'too\nmuch', 'other\nvalues'])
  for (const { register, name, shop } of tills) {
    const own = copies.filter((copy) => copy.register === register)
    const sum = (of: (copy: Copy) => readonly string[]) =>
      mark(
        own.reduce((total, copy) => total + of(copy).length, 0),
        0,
      )
    const differences = [sum(({ missing }) => missing), sum(({ tooMuch }) => tooMuch), sum(({ different }) => different)]
    table.push([name, 'head office', ...own.map(({ wanted }) => number(wanted)), '', '', ''])
    table.push([shop.location, 'till', ...own.map(({ found, wanted }) => mark(found, wanted)), ...differences])
  }
  return table.toString()
}

const KINDS = {
  'items new': 'new items',
  'items changed': 'prices',
  'items removed': 'removed',
  'price_list_lines starts': 'promoted',
  'price_list_lines ends': 'no longer',
  'internal_orders changed': 'orders',
}

/** Of each till: how many records its operator was told about, by what happened to them. */
export function toldTable({ seen: { told }, tills }: Proof): string {
  const table = createTable([''], [...Object.values(KINDS), 'labels', 'not told', 'not due'])
  for (const { register, name } of tills) {
    const own = told.filter((one) => one.register === register)
    const records = (of: 'due' | 'listed', kind: string) =>
      own.reduce((total, one) => total + new Set(one[of].filter((telling) => telling.kind === kind).map(({ record }) => record.join(' '))).size, 0)
    const counts = Object.keys(KINDS).map((kind) => mark(records('listed', kind), records('due', kind)))
    const sum = (of: 'labels' | 'missing' | 'tooMuch') => own.reduce((total, one) => total + one[of].length, 0)
    table.push([name, ...counts, number(sum('labels')), mark(sum('missing'), 0), mark(sum('tooMuch'), 0)])
  }
  return table.toString()
}
