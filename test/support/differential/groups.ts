import type { PartRules, RootRules } from '../hosts/rules.ts'
import { Break } from './break.ts'
import { type Exact, exactValues, idOfText } from './values.ts'

/** A row of sync_entries. */
export interface EntryRow {
  readonly entryNo: number
  readonly table: string
  readonly operation: string
  readonly recordId: string
  readonly record: string | null
  readonly document: string
  readonly sealedAt: string
  /** In hexadecimal. */
  readonly digest: string
}

export interface Record_ {
  readonly table: string
  readonly id: string
  readonly values: Readonly<Record<string, Exact>>
}

/** The entries of one version of a document, of its baseline, or its removal. */
export interface Group {
  readonly operation: 'baseline' | 'upsert' | 'remove'
  /** `table\nid`. */
  readonly document: string
  readonly root: string
  readonly records: readonly Record_[]
}

export function documentName(root: string, id: string): string {
  return `${root}\n${id}`
}

/** Entries as documents: numbers without a gap, a document's entries together, header first, parts after what they hang on. */
export function groupsOf(rows: readonly EntryRow[], after: number, rules: readonly RootRules[]): Group[] {
  const groups: (Group & { readonly records: Record_[] })[] = []
  for (const [n, row] of rows.entries()) {
    if (row.entryNo !== after + n + 1) throw new Break('numbers', `entry ${row.entryNo} follows ${after + n}`)
    const last = groups.at(-1)
    const header = row.document === `[${JSON.stringify(row.table)},${row.recordId}]`
    if (header) groups.push({ operation: row.operation as Group['operation'], ...nameOf(row), root: row.table, records: [] })
    else if (last === undefined || last.document !== nameOf(row).document || last.operation !== row.operation)
      throw new Break('together', `entry ${row.entryNo} of ${row.document} does not stand with its document`)
    if (row.operation === 'remove') {
      if (!header || row.record !== null) throw new Break('remove', `entry ${row.entryNo} removes ${row.table}${row.recordId} of ${row.document}`)
      continue
    }
    const record: Record_ = { table: row.table, id: idOfText(row.recordId), values: exactValues(row.record ?? 'null') }
    groups.at(-1)?.records.push(record)
  }
  for (const [n, group] of groups.entries()) {
    isWhole(group, rules)
    const next = groups[n + 1]
    if (group.operation === 'baseline' && (next?.operation !== 'upsert' || next.document !== group.document))
      throw new Break('baseline', `no version follows the baseline of ${group.document}`)
  }
  return groups
}

function nameOf({ document }: EntryRow): { document: string } {
  const [root] = JSON.parse(document) as [string]
  return { document: documentName(root, idOfText(document.slice(JSON.stringify(root).length + 2, -1))) }
}

/** No record twice, and none before one of the table above that it belongs to. */
function isWhole({ document, root, records }: Group, rules: readonly RootRules[]): void {
  const above = new Map<string, PartRules>()
  const note = (rule: PartRules): void => {
    for (const part of rule.parts) {
      above.set(part.table, rule)
      note(part)
    }
  }
  for (const rule of rules) if (rule.table === root) note(rule)
  const seen = new Set<string>()
  const tables = new Set<string>()
  for (const { table, id } of records) {
    const name = documentName(table, id)
    if (seen.has(name)) throw new Break('twice', `${name} stands twice in ${document}`)
    seen.add(name)
    tables.add(table)
    const parent = above.get(table)
    if (parent !== undefined && !tables.has(parent.table)) throw new Break('order', `${name} stands before any of ${parent.table} in ${document}`)
  }
}
