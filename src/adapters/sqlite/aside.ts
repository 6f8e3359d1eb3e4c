import { randomBytes, randomInt } from 'node:crypto'
import type { MirrorOthers } from '../../ports.ts'
import type { SqliteColumn, Stored } from './json-values.ts'
import type { SqliteTarget, UniqueIndex } from './targets.ts'

/** How a unique value is given up: the column, and what it holds until its own value comes, for each row another one. */
export interface GivenUp {
  readonly column: string
  readonly value: () => Stored
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

/** Values that no row is likely to have; a CHECK may refuse the first. */
function nobodys({ affinity }: SqliteColumn): readonly (() => Stored)[] {
  const number = () => BigInt(randomInt(2 ** 46, 2 ** 47))
  if (affinity === 'text') return [() => `~${randomBytes(16).toString('hex')}`, () => `${number()}`]
  if (affinity === 'blob') return [() => randomBytes(16), () => `~${randomBytes(16).toString('hex')}`, number]
  return [() => -number(), number]
}
