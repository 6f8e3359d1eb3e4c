import { randomBytes, randomInt } from 'node:crypto'
import type { MirrorOthers } from '../../mirroring.ts'
import type { Change } from './deferral.ts'
import { bindable, place, RecordReader, type SqliteColumn, type Stored } from './json-values.ts'
import { equal, type SqliteTarget, type UniqueIndex } from './targets.ts'
import { quote } from './triggers.ts'

/** How a unique value is given up: the column, and what it holds until its own value comes, for each row another one. */
export interface GivenUp {
  readonly column: string
  readonly value: () => Stored
}

/** A statement by which a row gives its value up. */
interface Aside {
  readonly change: Change
  readonly sql: string
  readonly parameters: readonly unknown[]
}

/**
 * Ways in which rows can give up the value that they have in a unique index, so that they can exchange theirs, the best first. A column that the rows get anyway, or that is
 * theirs no longer, holds NULL or a value that nobody has, for as long as the transaction writes the others.
 */
export function waysToGiveUp({ table, constants, written }: MirrorOthers, unique: UniqueIndex): readonly GivenUp[] {
  const { columns, key, foreignKeys } = table as SqliteTarget
  const open = columns.filter(({ name, generated }) => {
    const isFixed = generated || key.includes(name) || Object.hasOwn(constants, name)
    return unique.columns.includes(name) && !isFixed && written?.includes(name) !== false
  })
  const refers = (name: string) => foreignKeys.some((foreignKey) => foreignKey.columns.includes(name))
  return [
    ...open.filter(({ nullable }) => nullable).map(({ name }) => ({ column: name, value: () => null })),
    ...open.filter(({ name }) => !refers(name)).flatMap((column) => nobodys(column).map((value) => ({ column: column.name, value }))),
  ]
}

/** What takes the value from each of the rows that are to have another one, or to go. */
export function* asides(others: MirrorOthers, unique: UniqueIndex, { column, value }: GivenUp): Generator<Aside> {
  const { written, constants } = others
  const table = others.table as SqliteTarget
  const { key, orAbort, name } = table
  const own = unique.columns.filter((one) => written?.includes(one) && others.columns.includes(one) && !Object.hasOwn(constants, one))
  const reader = new RecordReader(others, [...key, ...own])
  for (const record of others.records) {
    const row = reader.read(record)
    const places = row.map(place)
    const nobodys = value()
    const differs = own.map((one, at) => `${quote(one)} IS NOT ${places[key.length + at]} COLLATE BINARY`)
    const conditions = [
      equal(table, key, (_, at) => places[at] as string),
      ...(written === undefined ? [] : [`(${['0', ...differs].join(' OR ')})`]),
      ...(nobodys === null ? [`${quote(column)} IS NOT NULL`] : []),
    ]
    yield {
      change: { kind: 'update', target: table, by: key, key: row.slice(0, key.length), values: new Map([[column, nobodys]]) },
      sql: `UPDATE${orAbort} ${quote(name)} SET ${quote(column)} = ? WHERE ${conditions.join(' AND ')}`,
      parameters: [nobodys, ...row].map(bindable),
    }
  }
}

/** Values that no row is likely to have; a CHECK may refuse the first. */
function nobodys({ affinity }: SqliteColumn): readonly (() => Stored)[] {
  const number = () => BigInt(randomInt(2 ** 46, 2 ** 47))
  if (affinity === 'text') return [() => `~${randomBytes(16).toString('hex')}`, () => `${number()}`]
  if (affinity === 'blob') return [() => randomBytes(16), () => `~${randomBytes(16).toString('hex')}`, number]
  return [() => -number(), number]
}
