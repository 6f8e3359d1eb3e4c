import { writtenMembers } from '../record.ts'
import type { ReadRecord } from './documents.ts'
import { isPart, type RootPlan, type TablePlan } from './table-plan.ts'

/** What a withheld document was when it was withheld. */
export interface Withheld {
  readonly records: readonly ReadRecord[]
  /** The columns of the key that its record id is of. */
  readonly key: readonly string[]
  /** The tables that it was read from then, each with the columns that the rules left out. */
  readonly leftOut: LeftOut
}

type LeftOut = readonly (readonly [table: string, columns: readonly string[]])[]

/** By what rules a document is withheld now. */
function leftOutBy(root: RootPlan): LeftOut {
  return plansOf(root).map(({ table, leftOut }) => [table, leftOut])
}

export function writeWithheld(root: RootPlan, records: readonly ReadRecord[]): string {
  return JSON.stringify({ key: root.key, leftOut: leftOutBy(root), records: records.map(({ table, recordId, record }) => [table, recordId, record]) })
}

export function readWithheld(text: string): Withheld {
  const { key, leftOut, records } = JSON.parse(text) as { key: string[]; leftOut: LeftOut; records: [string, string, string][] }
  return { key, leftOut, records: records.map(([table, recordId, record]) => ({ table, recordId, record })) }
}

/** Whether other rules hold now than when it was withheld, or it has columns that are gone: another may get the name of one. */
export function isOfOtherRules(root: RootPlan, withheld: Withheld | undefined): boolean {
  if (withheld === undefined) return false
  if (JSON.stringify([withheld.key, withheld.leftOut]) !== JSON.stringify([root.key, leftOutBy(root)])) return true
  const columns = new Map(plansOf(root).map((plan) => [plan.table, new Set(plan.columns.map(({ name }) => name))]))
  return withheld.records.some(({ table, record }) => [...writtenMembers(record).keys()].some((name) => !columns.get(table)?.has(name)))
}

/** What was withheld under another key, under that of the document as it is now; what refers to it refers to it by that. A change of the key is none of the document. */
export function keyedAnew(root: RootPlan, { records, ...by }: Withheld, now: readonly ReadRecord[]): Withheld {
  const present = new Map(now.map((one) => [nameOf(one), one.record]))
  const keys = new Map(plansOf(root).map((plan) => [plan.table, isPart(plan) ? plan.parent.own : plan.key]))
  const [header, ...parts] = records as [ReadRecord, ...ReadRecord[]]
  const anew = (one: ReadRecord): ReadRecord => {
    const is = present.get(nameOf(one))
    if (is === undefined) return one
    const [was, values] = [new Map(writtenMembers(one.record)), writtenMembers(is)]
    for (const name of keys.get(one.table) ?? []) was.set(name, values.get(name) as string)
    return { ...one, record: writeMembers([...was]) }
  }
  return { ...by, records: [anew({ ...header, recordId: (now[0] as ReadRecord).recordId }), ...parts.map(anew)] }
}

function writeMembers(members: readonly (readonly [string, string])[]): string {
  return `{${members.map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(',')}}`
}

/** What a withheld document was, by the rules that hold now. */
export interface Former {
  readonly records: readonly ReadRecord[]
  /** Whether something of it is not known but as it is now. */
  readonly isGuessed: boolean
}

/**
 * Without what the rules leave out or the tables have no more, and with what they did not name when it was withheld, which nobody has kept, as it is now. A change of the schema is none
 * of the documents.
 *
 * @param isTouched whether somebody has written it since, so that what is in a column now may not have been there
 */
export function byPresentRules(root: RootPlan, { records, leftOut }: Withheld, now: readonly ReadRecord[], isTouched: boolean): Former {
  const plans = new Map(plansOf(root).map((plan) => [plan.table, plan]))
  const columnsLeftOut = new Map(leftOut)
  const present = new Map(now.map((one) => [nameOf(one), one.record]))
  let isGuessed = [...plans.values()].some(({ table, columns }) => {
    const unknown = columnsLeftOut.get(table)
    return unknown === undefined || columns.some(({ name }) => unknown.includes(name))
  })
  const former = records.flatMap((one) => {
    const plan = plans.get(one.table)
    if (plan === undefined) return []
    const is = present.get(nameOf(one))
    const by = { leftOut: columnsLeftOut.get(one.table) ?? [], is: is === undefined ? undefined : writtenMembers(is), isTouched }
    const former = recordByPresentRules(plan, writtenMembers(one.record), by)
    isGuessed ||= former.isGuessed
    return [{ ...one, record: former.record }]
  })
  return { records: [...former, ...now.filter(({ table }) => !columnsLeftOut.has(table))], isGuessed }
}

interface Present {
  /** What the rules left out when it was withheld. */
  readonly leftOut: readonly string[]
  readonly is: ReadonlyMap<string, string> | undefined
  readonly isTouched: boolean
}

function recordByPresentRules(plan: TablePlan, was: ReadonlyMap<string, string>, { leftOut, is, isTouched }: Present) {
  const names = [...was.keys()]
  const gone = names.filter((name) => !plan.leftOut.includes(name) && !plan.columns.some((column) => column.name === name))
  let [from, renamed, came] = [0, 0, 0]
  const members = plan.columns.map(({ name, initial = 'null' }, at): [string, string] => {
    const value = is?.get(name) ?? initial
    if (was.has(name)) return [name, was.get(name) as string]
    // Nobody has written it: what is in a column that came after was put there when it came.
    if (leftOut.includes(name) || !isTouched) return [name, value]
    // It is new, or it was renamed: then it has the value of one that is gone or, where that was changed, its place. Columns keep their order.
    came++
    const held = gone.findIndex((other, n) => n >= from && was.get(other) === value)
    const place = value === initial || !isAlike(was.get(names[at] ?? ''), value) ? -1 : gone.indexOf(names[at] ?? '', from)
    const former = held === -1 ? place : held
    if (former === -1) return [name, initial]
    from = former + 1
    renamed++
    return [name, was.get(gone[former] as string) as string]
  })
  return { record: writeMembers(members), isGuessed: came > 0 && renamed < gone.length }
}

/** Whether both are numbers, texts, booleans or anything else, as JSON. */
function isAlike(a = '', b: string): boolean {
  const kind = (text: string) => text.replace(/^[-\d]/, '0').charAt(0)
  return kind(a) === kind(b)
}

/** Whether a document is as it was, by the present rules. */
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
