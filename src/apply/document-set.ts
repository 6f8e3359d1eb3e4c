import { TillsyncError } from '../errors.ts'
import type { Batch, Entry, PartShape, RegisterName, Value } from '../model.ts'
import { decodeRecord, encodeText, encodeValue, ownOf, writtenMembers } from '../record.ts'

/** A document as it is applied: its latest version, whole. */
export interface AppliedDocument {
  readonly table: string
  readonly recordId: string
  readonly removed: boolean
  /** Its entries, the root record's first; a removal has this one only. */
  readonly entries: readonly Entry[]
  /** What it was before the register began to publish it, where it is sent for the first time since. */
  baseline: AppliedDocument | undefined
  /** The version that waits in quarantine, where this is the removal that came behind it: it is applied before. */
  before: AppliedDocument | undefined
  /** The first entry of all its versions that came together. */
  born: number
  /** Of one that was read from the archive the epoch in which it was sealed; of others that is their origin's. */
  epochNo: number | undefined
  /** The removal by which its life has ended, where it is applied for handlers that ignore removals. */
  removal: { readonly epochNo: number; readonly entryNo: number } | undefined
  /** The tables of its parts. */
  readonly shape: readonly PartShape[]
  /** The columns of its record id; none where the register did not say. */
  readonly keyColumns: readonly string[]
  /** Which life of its key it is. */
  incarnation: number
  /** Whether central has never had this document in this life. */
  isNew: boolean
  /** The same as the host's handlers get it: columns of the root record, and `parts` by table. */
  readonly value: Record<string, unknown> & { parts: Record<string, Record<string, Value>[]> }
  /** Its records in the order of its entries, as they are written: what parts have in common with the root as the root has it. */
  records(): readonly string[]
  /** The values of its records in the order of its entries, to be looked at and left as they are: `value` is made of them. */
  values(): readonly Readonly<Record<string, Value>>[]
  /** The same once more, for somebody who may change it. */
  copy(): AppliedDocument['value']
  /** The same once more, as nobody has read it: a handler may have changed the value that it got. */
  again(): AppliedDocument
}

/** Where documents come from. */
export interface Origin extends RegisterName {
  readonly registerId: number
  readonly epoch: string
  readonly epochNo: number
}

class EntryDocument implements AppliedDocument {
  incarnation = 0
  isNew = true
  baseline: AppliedDocument | undefined
  before: AppliedDocument | undefined
  epochNo: number | undefined
  removal: AppliedDocument['removal']
  born: number
  readonly entries: readonly Entry[]
  readonly shape: readonly PartShape[]
  readonly keyColumns: readonly string[]
  private parsed: AppliedDocument['value'] | undefined
  /** Until somebody gets `value`, who may change them. */
  private decoded: readonly Record<string, Value>[] | undefined
  private joined: readonly string[] | undefined

  constructor(entries: readonly Entry[], shape: readonly PartShape[], keyColumns: readonly string[]) {
    this.entries = entries
    this.shape = shape
    this.keyColumns = keyColumns
    this.born = entries[0]?.entryNo ?? 0
  }

  again(): AppliedDocument {
    const { incarnation, isNew, born, epochNo, removal } = this
    const [baseline, before] = [this.baseline?.again(), this.before?.again()]
    return Object.assign(new EntryDocument(this.entries, this.shape, this.keyColumns), {
      incarnation,
      isNew,
      born,
      epochNo,
      removal,
      baseline,
      before,
    })
  }

  private get root(): Entry {
    return this.entries[0] as Entry
  }

  get table(): string {
    return this.root.table
  }

  get recordId(): string {
    return this.root.recordId
  }

  get removed(): boolean {
    return this.root.operation === 'remove'
  }

  get value(): AppliedDocument['value'] {
    if (this.parsed === undefined) {
      this.parsed = this.valueOf(this.values())
      this.decoded = undefined
    }
    return this.parsed
  }

  records(): readonly string[] {
    if (this.joined === undefined) this.join()
    return this.joined as readonly string[]
  }

  values(): readonly Record<string, Value>[] {
    if (this.decoded === undefined) this.join()
    return this.decoded as readonly Record<string, Value>[]
  }

  copy(): AppliedDocument['value'] {
    return this.valueOf(this.records().map(decodeRecord))
  }

  /** A till may take 'ab' and 'AB' for equal, where the other side tells them apart. */
  private join(): void {
    const records = this.entries.map((entry) => entry.record as string)
    const decoded = records.map(decodeRecord)
    const [root = {}] = decoded
    const joints = jointsOf(this.shape)
    for (const [n, { table }] of this.entries.entries()) {
      const values = decoded[n] as Record<string, Value>
      const others = (n === 0 ? [] : (joints.get(table) ?? [])).filter(([own, above]) => isOther(ownOf(values, own), ownOf(root, above)))
      if (others.length === 0) continue
      const members = new Map(writtenMembers(records[n] as string))
      for (const [own, above] of others) members.set(own, encodeValue(root[above] as Value))
      records[n] = `{${[...members].map(([name, text]) => `${encodeText(name)}:${text}`).join(',')}}`
      decoded[n] = decodeRecord(records[n])
    }
    this.joined = records
    this.decoded = decoded
  }

  private valueOf([root, ...others]: readonly Record<string, Value>[]): AppliedDocument['value'] {
    const parts = new Map(tablesOf(this.shape).map((table) => [table, [] as Record<string, Value>[]]))
    for (const [n, row] of others.entries()) {
      const { table } = this.entries[n + 1] as Entry
      const rows = parts.get(table) ?? []
      parts.set(table, rows)
      rows.push(row)
    }
    return { ...root, parts: Object.fromEntries(parts) }
  }
}

/** A document by its entries, as nobody has numbered them; see `AppliedDocument`. */
export function documentOf(entries: readonly Entry[], shape: readonly PartShape[], keyColumns: readonly string[]): AppliedDocument {
  return new EntryDocument(entries, shape, keyColumns)
}

export function tablesOf(shape: readonly PartShape[]): string[] {
  return shape.flatMap((part) => [part.table, ...tablesOf(part.parts)])
}

/** By the tables of parts: which of their columns hold what which of the root's does. */
type Joints = ReadonlyMap<string, readonly (readonly [own: string, root: string])[]>

/** By shape, which many documents share. */
const knownJoints = new WeakMap<readonly PartShape[], Joints>()

function jointsOf(shape: readonly PartShape[]): Joints {
  const known = knownJoints.get(shape) ?? new Map(jointsWithin(shape, (column) => column))
  knownJoints.set(shape, known)
  return known
}

function jointsWithin(
  parts: readonly PartShape[],
  rootOf: (column: string) => string | undefined,
): (readonly [string, readonly (readonly [string, string])[]])[] {
  return parts.flatMap(({ table, columns, parts }) => {
    const own = Object.entries(columns).flatMap(([column, above]) => {
      const root = rootOf(above)
      return root === undefined ? [] : [[column, root] as const]
    })
    const names = new Map(own)
    return [[table, own] as const, ...jointsWithin(parts, (column) => names.get(column))]
  })
}

/** Whether both are texts, and not the same. */
function isOther(own: Value | undefined, root: Value | undefined): boolean {
  return typeof own === 'string' && typeof root === 'string' && own !== root
}

/** The documents of a batch, in its order. */
export function documentsOf(batch: Pick<Batch, 'entries' | 'shapes' | 'keys'>): readonly AppliedDocument[] {
  const documents: AppliedDocument[] = []
  let from = 0
  for (let at = 1; at <= batch.entries.length; at++) {
    const entry = batch.entries[at]
    if (entry !== undefined && entry.document === batch.entries[from]?.document) continue
    documents.push(toDocument(batch.entries.slice(from, at), batch))
    from = at
  }
  return documents
}

function toDocument(all: readonly Entry[], batch: Pick<Batch, 'shapes' | 'keys'>): AppliedDocument {
  const document = wholeDocument(all, batch)
  if (document !== undefined) return document
  throw new TillsyncError('ERR_MESSAGE', 'The entries of a document do not make one', { context: { entryNo: all[0]?.entryNo } })
}

/** The document that these entries make, known to them by one name; undefined where they make none, as it may be in an archive that somebody has changed. */
export function wholeDocument(all: readonly Entry[], batch: Pick<Batch, 'shapes' | 'keys'>): AppliedDocument | undefined {
  const shape = ownOf(batch.shapes, all[0]?.table as string) ?? []
  const key = ownOf(batch.keys, all[0]?.table as string) ?? []
  const before = all.filter((entry) => entry.operation === 'baseline')
  const entries = all.slice(before.length)
  const [root] = entries
  const alike = entries.every((entry) => entry.operation === root?.operation) && (root?.operation !== 'remove' || all.length === 1)
  if (root === undefined || !alike || !isRoot(root) || (before[0] !== undefined && !isRoot(before[0]))) return undefined
  const document = new EntryDocument(entries, shape, key)
  if (before.length > 0) {
    document.baseline = new EntryDocument(before, shape, key)
    document.born = document.baseline.born
  }
  return document
}

/** Whether its records are such: in an archive that somebody has changed they may be anything. */
export function isReadable(document: AppliedDocument): boolean {
  try {
    if (!document.removed) document.values()
    return true
  } catch {
    return false
  }
}

function isRoot({ table, recordId, document }: Entry): boolean {
  return table === document.table && recordId === document.recordId
}

/**
 * The documents in sets, to be applied one after another. In a set each document stands once: a later version takes the
 * place of an earlier one, but for a key that is removed and used again, which begins another set. What was sealed together stays together, so that
 * what a set leaves is what once stood at the till: a row that another one refers to, or whose unique value another one has now, is of the same set.
 */
export function setsOf(documents: readonly AppliedDocument[]): readonly (readonly AppliedDocument[])[] {
  const sets: AppliedDocument[][] = []
  let current = new Map<string, AppliedDocument>()
  for (const layer of sealedTogether(documents).flatMap(layersOf)) {
    if (layer.some((document) => (current.get(nameOf(document))?.removed ?? document.removed) !== document.removed)) {
      sets.push([...current.values()])
      current = new Map()
    }
    for (const document of layer) {
      const name = nameOf(document)
      const earlier = current.get(name)
      document.baseline ??= earlier?.baseline
      document.born = earlier?.born ?? document.born
      current.delete(name)
      current.set(name, document)
    }
  }
  if (current.size > 0) sets.push([...current.values()])
  return sets
}

function nameOf({ table, recordId }: AppliedDocument): string {
  return `${table}\n${recordId}`
}

function sealedTogether(documents: readonly AppliedDocument[]): readonly (readonly AppliedDocument[])[] {
  const groups: AppliedDocument[][] = []
  for (const document of documents) {
    const group = groups.at(-1)
    if (group?.[0]?.entries[0]?.sealedAt === document.entries[0]?.sealedAt) group?.push(document)
    else groups.push([document])
  }
  return groups
}

/** A key may end one life and begin another within what was sealed together: the last lives of all keys are together, earlier ones before them. */
function layersOf(documents: readonly AppliedDocument[]): readonly (readonly AppliedDocument[])[] {
  const lives = new Map<string, { removed: boolean; count: number }>()
  const numbered = documents.map((document) => {
    const life = lives.get(nameOf(document)) ?? { removed: document.removed, count: 0 }
    lives.set(nameOf(document), life)
    if (life.removed !== document.removed) life.count++
    life.removed = document.removed
    return { document, count: life.count }
  })
  const most = lives.values().reduce((most, { count }) => Math.max(most, count), 0)
  const layers = Map.groupBy(numbered, ({ document, count }) => most - (lives.get(nameOf(document))?.count ?? 0) + count)
  return [...layers].toSorted(([a], [b]) => a - b).map(([, layer]) => layer.map(({ document }) => document))
}
