import { type DialectName, q } from '../hosts/model.ts'
import { type Condition, conditionSql, type PartRules, type RootRules } from '../hosts/rules.ts'
import { documentName, type Record_ } from './groups.ts'
import { type Exact, idOf } from './values.ts'
import type { Doc, Standing } from './witness.ts'

/** A table as its database says now; without columns where there is none. */
export interface TableInfo {
  readonly columns: readonly string[]
  readonly key: readonly string[]
  readonly uniques: readonly (readonly string[])[]
}

/** A database by plain queries of our own. */
export interface Reader {
  readonly dialect: DialectName
  /** Whether a condition can be asked of a table: a column may be of another type by now. */
  takes(table: string, condition: Condition): Promise<boolean>
  table(name: string): Promise<TableInfo>
  /** `table.column, …` of the rows that the rest of a SELECT says. */
  rows(columns: readonly (readonly [table: string, column: string])[], from: string): Promise<Exact[][]>
  /** What a row of a table holds that was there before each of its columns, by column. */
  initials(table: string): Promise<ReadonlyMap<string, Exact>>
}

/** What stands in a database, one join a table. */
export async function standingOf(reader: Reader, rules: readonly RootRules[]): Promise<Standing> {
  const fitting: RootRules[] = []
  for (const root of rules) if (await fits(reader, root)) fitting.push(root)
  const docs = new Map<string, Doc>()
  for (const root of fitting) for (const [name, doc] of await docsOf(reader, root)) docs.set(name, doc)
  return { roots: new Set(fitting.map(({ table }) => table)), docs, initials: await initialsOf(reader, fitting) }
}

/** The documents of a root for which a condition holds, by name. */
export async function matching(reader: Reader, { table }: RootRules, condition: Condition | undefined): Promise<Set<string>> {
  const { key } = await reader.table(table)
  const found = await reader.rows(inTable(table, key), `${q(table)}${whereSql(reader, table, condition)}`)
  return new Set(found.map((values) => documentName(table, idOf(values))))
}

function whereSql({ dialect }: Reader, table: string, condition: Condition | undefined): string {
  return condition === undefined ? '' : ` WHERE ${conditionSql(dialect, table, condition)}`
}

function inTable(table: string, columns: readonly string[]): [string, string][] {
  return columns.map((name) => [table, name])
}

/** Names by which a condition finds SQLite's own number of a row where no column has them any more (https://www.sqlite.org/lang_createtable.html#rowid). */
const ROWID = /^(rowid|oid|_rowid_)$/i

/** Whether the tables have what the rules name. */
export async function fits(reader: Reader, root: RootRules): Promise<boolean> {
  const has = async (rule: PartRules, parent: TableInfo | undefined): Promise<boolean> => {
    const table = await reader.table(rule.table)
    const all = (wanted: readonly string[]) => wanted.every((name) => table.columns.includes(name))
    if (table.key.length === 0 || !all(rule.own) || !all(rule.only ?? []) || !all(rule.except ?? [])) return false
    const needed = [...table.key, ...rule.own, ...rule.parts.flatMap((part) => part.others)]
    if (rule.except?.some((name) => needed.includes(name))) return false
    if (parent !== undefined && ![parent.key, ...parent.uniques].some((unique) => sameNames(unique, rule.others))) return false
    for (const part of rule.parts) if (!(await has(part, table))) return false
    return true
  }
  if (!(await has(root, undefined))) return false
  const { columns } = await reader.table(root.table)
  const conditions = [root.where, root.existing].filter((one): one is Condition => typeof one === 'object')
  const named = conditions.flatMap((condition) => ('column' in condition ? [condition.column] : condition.others))
  if (!named.every((name) => columns.includes(name) || (reader.dialect === 'sqlite' && ROWID.test(name)))) return false
  for (const condition of conditions) if (!(await reader.takes(root.table, condition))) return false
  const out = await published(reader, root)
  return root.identity.every((name) => out.includes(name))
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name) => b.includes(name))
}

async function docsOf(reader: Reader, root: RootRules): Promise<Map<string, Doc>> {
  const docs = new Map<string, Doc & { readonly records: Record_[] }>()
  const { key } = await reader.table(root.table)
  const columns = await published(reader, root)
  const where = whereSql(reader, root.table, root.where)
  for (const values of await reader.rows(inTable(root.table, [...key, ...columns]), `${q(root.table)}${where}`)) {
    const record = recordOf(root.table, values, key, columns)
    docs.set(documentName(root.table, record.id), { root: root.table, records: [record] })
  }
  const join = async (rule: PartRules, from: string): Promise<void> => {
    for (const part of rule.parts) {
      const partKey = (await reader.table(part.table)).key
      const on = part.own.map((own, n) => `${q(part.table)}.${q(own)} = ${q(rule.table)}.${q(part.others[n] as string)}`).join(' AND ')
      const joined = `${from} JOIN ${q(part.table)} ON ${on}`
      const names = await published(reader, part)
      for (const values of await reader.rows([...inTable(root.table, key), ...inTable(part.table, [...partKey, ...names])], `${joined}${where}`)) {
        const document = documentName(root.table, idOf(values.slice(0, key.length)))
        docs.get(document)?.records.push(recordOf(part.table, values.slice(key.length), partKey, names))
      }
      await join(part, joined)
    }
  }
  await join(root, q(root.table))
  return docs
}

/** Columns that the rules let out: those of the key and of references always. */
async function published(reader: Reader, rule: PartRules): Promise<string[]> {
  const { columns, key } = await reader.table(rule.table)
  const needed = [...key, ...rule.own, ...rule.parts.flatMap((part) => part.others)]
  const chosen = (name: string) => (rule.only === undefined ? !rule.except?.includes(name) : rule.only.includes(name))
  return columns.filter((name) => needed.includes(name) || chosen(name))
}

function recordOf(table: string, values: readonly Exact[], key: readonly string[], columns: readonly string[]): Record_ {
  return {
    table,
    id: idOf(values.slice(0, key.length)),
    values: Object.fromEntries(columns.map((name, n) => [name, values[key.length + n] as Exact])),
  }
}

async function initialsOf(reader: Reader, rules: readonly RootRules[]): Promise<Map<string, Exact>> {
  const initials = new Map<string, Exact>()
  const note = async (rule: PartRules): Promise<void> => {
    for (const [name, value] of await reader.initials(rule.table)) initials.set(`${rule.table}\n${name}`, value)
    for (const part of rule.parts) await note(part)
  }
  for (const root of rules) await note(root)
  return initials
}
