import type { RootRules } from '../hosts/rules.ts'
import { Break } from './break.ts'
import { follow, START } from './chain.ts'
import { type EntryRow, type Group, groupsOf, type Record_ } from './groups.ts'
import type { Exact } from './values.ts'

/** A document as a plain query finds it. */
export interface Doc {
  readonly root: string
  readonly records: readonly Record_[]
}

/** What a plain query finds of all published roots, by document name; and what rows hold that were there before a column was. */
export interface Standing {
  /** Roots whose rules fit their tables; others can't be published for the time being. */
  readonly roots: ReadonlySet<string>
  readonly docs: ReadonlyMap<string, Doc>
  /** `table\ncolumn` → value. */
  readonly initials: ReadonlyMap<string, Exact>
}

export interface Since {
  /** Whether there was but one sealing, so that the entries must be the difference. */
  readonly exact: boolean
  /** Roots that began to be published for the first time. */
  readonly activated: ReadonlySet<string>
  /** Documents that stood there then, and are withheld. */
  readonly existing: ReadonlySet<string>
  readonly exported: ReadonlySet<string>
}

type Operations = readonly Group['operation'][]

/**
 * Reads the entries from the first to the last, and says what they add up to. It knows what was withheld, what stood in the tables when
 * it last looked, and so, as long as nothing else was sealed in between, which entries there must be: exactly the difference.
 */
export class Witness {
  /** The documents that the entries, replayed, leave. */
  readonly given = new Map<string, Doc>()
  readonly withheld = new Map<string, Doc>()
  /** Withheld ones whose rules or columns have become others: of what these name for the first time nobody knows how it was, until it is looked at. */
  private readonly unsure = new Set<string>()
  /** Each table's columns when its schema was last looked at; and those that were gone at some time since it last looked, whatever has their names now. */
  private readonly columns = new Map<string, ReadonlySet<string>>()
  private readonly uncertain = new Set<string>()
  private rules: readonly RootRules[]
  private after = 0
  private digest = START
  private before: Standing = { roots: new Set(), docs: new Map(), initials: new Map() }
  /** All values that a column's rows may have had before it was, since the beginning and since the last look; and the last one known by then. */
  private readonly everInitial = new Map<string, Set<Exact>>()
  private readonly lately = new Map<string, Set<Exact>>()
  private lastInitial = new Map<string, Exact>()
  /** Which columns tell a document from another one, by root, when it last looked. */
  private identities = new Map<string, readonly string[]>()
  private fresh: Group[] = []
  /** Roots that were compared when it last looked. */
  private looked: ReadonlySet<string> = new Set()

  constructor(rules: readonly RootRules[]) {
    this.rules = rules
  }

  get head(): number {
    return this.after
  }

  follow(rules: readonly RootRules[]): void {
    if (JSON.stringify(rules) !== JSON.stringify(this.rules)) for (const document of this.withheld.keys()) this.unsure.add(document)
    this.rules = rules
  }

  /** After each change of the schema. */
  noteInitials(initials: ReadonlyMap<string, Exact>): void {
    const columns = new Map<string, Set<string>>()
    for (const name of initials.keys()) {
      const [table, column] = name.split('\n') as [string, string]
      columns.set(table, (columns.get(table) ?? new Set()).add(column))
    }
    for (const [table, now] of columns) this.noteColumns(table, now)
    for (const [column, value] of initials) {
      for (const known of [this.everInitial, this.lately]) known.set(column, (known.get(column) ?? new Set()).add(value))
    }
  }

  /** A column that comes, goes or is renamed is no change of a document: what is withheld stays so, by the columns that there are then. */
  private noteColumns(table: string, now: ReadonlySet<string>): void {
    const before = this.columns.get(table)
    this.columns.set(table, now)
    if (before === undefined || before.symmetricDifference(now).size === 0) return
    for (const column of before.difference(now)) this.uncertain.add(`${table}\n${column}`)
    for (const [document, { records }] of this.withheld) if (records.some((record) => record.table === table)) this.unsure.add(document)
  }

  /** @param exported roots of which versions may come again unchanged */
  read(rows: readonly EntryRow[], exported: ReadonlySet<string>): void {
    const groups = groupsOf(rows, this.after, this.rules)
    this.after = rows.at(-1)?.entryNo ?? this.after
    this.digest = follow(this.digest, rows)
    for (const group of groups) this.replay(group, exported)
    this.fresh.push(...groups)
  }

  private replay({ operation, document, root, records }: Group, exported: ReadonlySet<string>): void {
    const known = this.given.get(document)
    if (operation === 'remove') {
      if (known === undefined) throw new Break('no-op', `${document} is removed and was not there`)
      this.given.delete(document)
      return
    }
    if (operation === 'baseline') {
      const withheld = this.withheld.get(document)
      if (withheld === undefined || known !== undefined) throw new Break('baseline', `${document} has a baseline and was not withheld`)
      if (!this.unsure.has(document)) same('baseline', document, records, withheld.records)
      this.withheld.delete(document)
      return
    }
    const initials = this.everInitial
    const again = exported.has(root) || this.defaultsChanged(root)
    if (known !== undefined && !again && difference(known.records, records, initials, initials) === undefined)
      throw new Break('no-op', `${document} is sealed again as it was`)
    this.given.set(document, { root, records })
  }

  /** What stood there when its table began to be published is withheld with what stands there when that is first sealed. */
  withhold(now: Standing, existing: ReadonlySet<string>): void {
    for (const document of existing) {
      const doc = now.docs.get(document)
      if (doc !== undefined && !this.given.has(document)) this.withheld.set(document, doc)
    }
  }

  /**
   * At a moment when everything is sealed: what the entries add up to is what stands there.
   *
   * @param since what happened since it last looked
   */
  compare(now: Standing, since: Since): void {
    const published = now.roots
    if (since.exact) this.compareOperations(now, since)
    for (const [document, doc] of now.docs) this.compareOne(document, doc, now)
    for (const [document, { root }] of this.given)
      if (published.has(root) && !now.docs.has(document)) throw new Break('stale', `${document} is given and is not there any more`)
    for (const [document, { root }] of this.withheld) if (published.has(root) && !now.docs.has(document)) this.withheld.delete(document)
    this.before = now
    this.looked = now.roots
    this.lastInitial = new Map([...this.lastInitial, ...now.initials])
    this.identities = new Map(this.rules.map(({ table, identity }) => [table, identity]))
    this.fresh = []
    this.lately.clear()
    this.unsure.clear()
    this.uncertain.clear()
    this.noteInitials(now.initials)
  }

  /** Roots that can't be published for the time being are not looked at. */
  private compareOne(document: string, doc: Doc, now: Standing): void {
    const given = this.given.get(document)
    const withheld = this.withheld.get(document)
    if (given !== undefined) {
      this.withheld.delete(document)
      const found = difference(given.records, doc.records, this.everInitial, now.initials)
      if (found !== undefined) throw new Break('content', `${document}: ${found}`)
      return
    }
    if (withheld === undefined) throw new Break('missing', `${document} stands there and is not sealed`)
    if (this.unsure.has(document)) {
      if (hasChanged(withheld.records, doc.records, this.uncertain))
        throw new Break('missing', `${document} was withheld, has changed with its rules and is not sealed`)
      this.withheld.set(document, doc)
      return
    }
    const found = difference(withheld.records, doc.records, this.everInitial, now.initials)
    if (found !== undefined) throw new Break('missing', `${document} was withheld, has changed and is not sealed: ${found}`)
  }

  private compareOperations(now: Standing, { existing, exported, activated }: Since): void {
    const sealed = new Map<string, Group['operation'][]>()
    for (const { document, operation } of this.fresh) sealed.set(document, [...(sealed.get(document) ?? []), operation])
    for (const document of new Set([...this.before.docs.keys(), ...now.docs.keys(), ...sealed.keys()])) {
      const root = document.slice(0, document.indexOf('\n'))
      const found = sealed.get(document) ?? []
      const known = this.looked.has(root) || activated.has(root)
      if (!known || !now.roots.has(root) || this.defaultsChanged(root) || this.unsure.has(document)) continue
      const wanted = this.expected(document, now, existing.has(document), exported.has(document))
      if (found.join() !== wanted.join()) throw new Break('entries', `${document}: sealed as [${found}], expected [${wanted}]`)
    }
  }

  /** What a sealing now says of a document, by what stood there before. */
  private expected(document: string, now: Standing, existing: boolean, exported: boolean): Operations {
    const before = this.before.docs.get(document)
    const after = now.docs.get(document)
    const withheld = this.wereWithheld.has(document)
    if (before === undefined) return after === undefined || (existing && !exported) ? [] : ['upsert']
    if (after === undefined) return withheld ? [] : ['remove']
    if (this.isAnother(before, after)) return withheld ? ['upsert'] : ['remove', 'upsert']
    const changed = exported || difference(before.records, after.records, this.before.initials, now.initials) !== undefined
    if (!changed) return []
    return withheld ? ['baseline', 'upsert'] : ['upsert']
  }

  /** What was withheld before the entries that were just read. */
  private get wereWithheld(): ReadonlySet<string> {
    return new Set([...this.withheld.keys(), ...this.fresh.filter(({ operation }) => operation === 'baseline').map(({ document }) => document)])
  }

  private isAnother(before: Doc, after: Doc): boolean {
    const identity = this.rules.find(({ table }) => table === before.root)?.identity ?? []
    // Other identity columns than before say nothing about what was sealed by those.
    if (this.identities.get(before.root)?.join('\n') !== identity.join('\n')) return false
    return identity.some((column) => {
      const was = valueAt(before.records[0]?.values, column)
      return was !== undefined && was !== valueAt(after.records[0]?.values, column)
    })
  }

  /** A changed default seals a table once more: an initial value is left out of hashes, and meant something else before. */
  private defaultsChanged(root: string): boolean {
    const rule = this.rules.find(({ table }) => table === root)
    const tables = new Set<string>()
    const note = (part: { readonly table: string; readonly parts: readonly { table: string; parts: readonly never[] }[] }): void => {
      tables.add(part.table)
      for (const below of part.parts) note(below)
    }
    if (rule !== undefined) note(rule as never)
    for (const [column, values] of this.lately) {
      const before = this.lastInitial.get(column)
      if (!tables.has(column.slice(0, column.indexOf('\n')))) continue
      if (values.size > 1 || (before !== undefined && !values.has(before))) return true
    }
    return false
  }
}

type Initials = ReadonlyMap<string, Exact | ReadonlySet<Exact>>

/** What differs between two versions, but for columns that one of them lacks and that hold their initial value in the other. */
function difference(a: readonly Record_[], b: readonly Record_[], initialsOfA: Initials, initialsOfB: Initials): string | undefined {
  const others = new Map(b.map((record) => [`${record.table}\n${record.id}`, record]))
  for (const { table, id, values } of a) {
    const other = others.get(`${table}\n${id}`)
    if (other === undefined) return `${table}${id} is not there`
    others.delete(`${table}\n${id}`)
    for (const column of new Set([...Object.keys(values), ...Object.keys(other.values)])) {
      const [one, two] = [valueAt(values, column), valueAt(other.values, column)]
      if (one === two) continue
      if (two === undefined && isInitial(initialsOfA, table, column, one)) continue
      if (one === undefined && isInitial(initialsOfB, table, column, two)) continue
      return `${table}${id}.${column} is ${one}, and ${two}`
    }
  }
  const [more] = others.keys()
  return more === undefined ? undefined : `${more.replace('\n', '')} is there too`
}

/** Whether one of the columns that both versions have is another. */
function hasChanged(a: readonly Record_[], b: readonly Record_[], uncertain: ReadonlySet<string>): boolean {
  return a.some(({ table, id, values }) => {
    const other = b.find((record) => record.table === table && record.id === id)
    const known = Object.keys(values).filter((column) => !uncertain.has(`${table}\n${column}`))
    return known.some((column) => (valueAt(other?.values, column) ?? values[column]) !== values[column])
  })
}

/** A column may be called `constructor`. */
function valueAt(values: Record_['values'] = {}, column: string): Exact | undefined {
  return Object.hasOwn(values, column) ? values[column] : undefined
}

function isInitial(initials: Initials, table: string, column: string, value: Exact | undefined): boolean {
  const known = initials.get(`${table}\n${column}`)
  if (value === undefined || known === undefined) return false
  return typeof known === 'string' ? known === value : known.has(value)
}

function same(kind: string, document: string, found: readonly Record_[], wanted: readonly Record_[]): void {
  const text = (records: readonly Record_[]) =>
    records.map(({ table, id, values }) => JSON.stringify([table, id, Object.entries(values).sort()])).sort()
  const [a, b] = [text(found), text(wanted)]
  const differs = a.find((one) => !b.includes(one)) ?? b.find((one) => !a.includes(one))
  if (a.length !== b.length || differs !== undefined) throw new Break(kind, `${document}: ${differs} is not on both sides`)
}
