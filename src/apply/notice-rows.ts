import type { MirrorTarget } from '../mirroring.ts'
import type { Value } from '../model.ts'
import { decodeRecord, writtenMembers } from '../record.ts'
import { countsOn, VALIDITY } from './notice-days.ts'
import type { Followed } from './notices.ts'

/** What is followed of a table. */
export interface FollowRule {
  /** The table here. */
  readonly table: string
  readonly columns: readonly string[]
  /** The columns from and until which day a record counts; false: it counts always. Undefined: `valid_from` and `valid_to`, where the table has them. */
  readonly validity: readonly [string, string] | false | undefined
}

/** A followed table as it stands. */
export interface FollowedTable {
  readonly target: MirrorTarget
  readonly columns: readonly string[]
  readonly validity: readonly [string | undefined, string | undefined] | undefined
}

/** Columns that the table does not have (yet) are not followed. */
export function followedTable(target: MirrorTarget, { columns, validity }: FollowRule): FollowedTable {
  const has = (name: string) => target.columns.some((column) => column.name === name)
  const [from, to] = (validity === false ? [] : (validity ?? VALIDITY)).map((name) => (has(name) ? name : undefined))
  return { target, columns: columns.filter(has), validity: from === undefined && to === undefined ? undefined : [from, to] }
}

/** The texts of a row's values. */
type Texts = Readonly<Record<string, string>>

/** The values of a row as it was read, each as JSON text. */
export function textsOf({ target }: FollowedTable, row: string): Texts {
  const members = writtenMembers(row)
  return Object.fromEntries(target.columns.map(({ name }) => [name, members.get(name) ?? 'null']))
}

/** What of a row counts on a day. */
export function countedOf({ columns, validity }: FollowedTable, texts: Texts | undefined, day: string): Followed {
  if (texts === undefined) return null
  const value = (name: string | undefined) => (name === undefined ? undefined : (decodeRecord(`{"value":${texts[name]}}`).value as Value))
  if (validity !== undefined && !countsOn(day, value(validity[0]), value(validity[1]))) return null
  return Object.fromEntries(columns.map((name) => [name, texts[name] as string]))
}

/** The record id of a row. */
export function idOf({ target }: FollowedTable, texts: Texts): string {
  return `[${target.key.map((name) => texts[name]).join(',')}]`
}

/** Whether a row counts on another day as it does on one. */
export function isBounded({ validity }: FollowedTable): boolean {
  return validity !== undefined
}
