import { styleText } from 'node:util'
import Table from 'cli-table3'
import { number } from './display.ts'

export function createTable(texts: readonly string[], numbers: readonly string[]): InstanceType<typeof Table> {
  return new Table({
    head: [...texts, ...numbers],
    colAligns: [...texts.map(() => 'left' as const), ...numbers.map(() => 'right' as const)],
    style: { head: [], border: styleText('grey', '') === '' ? [] : ['grey'], compact: true },
  })
}

/** In red where it is not as expected. */
export function mark(value: number | string, expected: number | string): string {
  const text = typeof value === 'number' ? number(value) : value
  return value === expected ? text : styleText('red', text)
}
