import { writtenMembers } from '../record.ts'
import type { ReadRecord } from './documents.ts'
import type { RootPlan, TablePlan } from './table-plan.ts'

/** What a withheld document was when it was withheld. */
export interface Withheld {
  readonly records: readonly ReadRecord[]
  /** The tables that it was read from then, each with the columns that the rules left out. */
  readonly leftOut: LeftOut
}

type LeftOut = readonly (readonly [table: string, columns: readonly string[]])[]

/** By what rules a document is withheld now. */
function leftOutBy(root: RootPlan): LeftOut {
  return plansOf(root).map(({ table, leftOut }) => [table, leftOut])
}

export function writeWithheld(root: RootPlan, records: readonly ReadRecord[]): string {
  return JSON.stringify({ leftOut: leftOutBy(root), records: records.map(({ table, recordId, record }) => [table, recordId, record]) })
}

export function readWithheld(text: string): Withheld {
  const { leftOut, records } = JSON.parse(text) as { leftOut: LeftOut; records: [string, string, string][] }
  return { leftOut, records: records.map(([table, recordId, record]) => ({ table, recordId, record })) }
}

/** Whether other rules hold now than when it was withheld. */
export function isOfOtherRules(root: RootPlan, withheld: Withheld | undefined): boolean {
  return withheld !== undefined && JSON.stringify(withheld.leftOut) !== JSON.stringify(leftOutBy(root))
}

/** What a withheld document was, by the rules that hold now. */
export interface Former {
  readonly records: readonly ReadRecord[]
  /** Whether something of it is not known but as it is now. */
  readonly isGuessed: boolean
}

/** Without what the rules leave out, and with what they did not name when it was withheld, which nobody has kept, as it is now. */
export function byPresentRules(root: RootPlan, { records, leftOut }: Withheld, now: readonly ReadRecord[]): Former {
  const plans = new Map(plansOf(root).map((plan) => [plan.table, plan]))
  const columnsLeftOut = new Map(leftOut)
  const present = new Map(now.map((one) => [nameOf(one), one.record]))
  const former = records.flatMap((one) => {
    const plan = plans.get(one.table)
    if (plan === undefined) return []
    return [{ ...one, record: recordByPresentRules(plan, one.record, columnsLeftOut.get(one.table) ?? [], present.get(nameOf(one))) }]
  })
  const isGuessed = [...plans.values()].some(({ table, columns }) => {
    const unknown = columnsLeftOut.get(table)
    return unknown === undefined || columns.some(({ name }) => unknown.includes(name))
  })
  return { records: [...former, ...now.filter(({ table }) => !columnsLeftOut.has(table))], isGuessed }
}

function recordByPresentRules(plan: TablePlan, record: string, leftOut: readonly string[], now: string | undefined): string {
  const members = [...writtenMembers(record)].filter(([name]) => !plan.leftOut.includes(name))
  const is = now === undefined ? undefined : writtenMembers(now)
  for (const { name, initial = 'null' } of plan.columns) if (leftOut.includes(name)) members.push([name, is?.get(name) ?? initial])
  return `{${members.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(',')}}`
}

/** Whether a document is as it was, but for columns that have come to its tables since and hold their initial values. */
export function isUnchanged(root: RootPlan, former: readonly ReadRecord[], now: readonly ReadRecord[]): boolean {
  const plans = new Map(plansOf(root).map((plan) => [plan.table, plan]))
  const records = new Map(former.map((one) => [nameOf(one), one.record]))
  return records.size === now.length && now.every((one) => isRecordUnchanged(plans.get(one.table) as TablePlan, records.get(nameOf(one)), one.record))
}

function isRecordUnchanged(plan: TablePlan, former: string | undefined, now: string): boolean {
  if (former === undefined) return false
  const [was, is] = [writtenMembers(former), writtenMembers(now)]
  if ([...was.keys()].some((name) => !is.has(name))) return false
  return plan.columns.every(({ name, initial = 'null' }) => is.get(name) === (was.get(name) ?? initial))
}

function nameOf({ table, recordId }: ReadRecord): string {
  return `${table}\n${recordId}`
}

function plansOf(plan: TablePlan): readonly TablePlan[] {
  return [plan, ...plan.parts.flatMap(plansOf)]
}
