import type { Value } from '../model.ts'
import { decodeRecord, encodeValue, keyRecord, ownOf } from '../record.ts'
import type { Meant, OwnDocument, OwnTableColumns, Published } from '../two-way.ts'
import type { Work } from '../work.ts'
import { type AppliedDocument, tablesOf } from './document-set.ts'
import type { HandlersByTable } from './handler.ts'
import type { PlainMirrorOptions } from './mirror-options.ts'
import { type MirrorSet, recordsOf } from './mirror-set.ts'
import { optionsOf } from './subscribed-mirrors.ts'

/** What a document of central's writes to, of what is published here. */
export interface OwnSide {
  readonly document: AppliedDocument
  /** By published root table. */
  readonly own: readonly (readonly [root: string, document: OwnDocument])[]
}

/**
 * The documents published here that each of these writes to: those by its own key, and those by the keys of its parts, where such tables are published as roots.
 */
export function* ownSides(published: Published, mirrors: HandlersByTable, documents: readonly AppliedDocument[]): Work<readonly OwnSide[]> {
  const asked = new Map<string, { readonly document: AppliedDocument; readonly recordId: string }[]>()
  for (const document of documents) {
    for (const [root, recordId] of idsOf(published, mirrors, document)) {
      const all = asked.get(root) ?? []
      asked.set(root, all)
      all.push({ document, recordId })
    }
  }
  const sides = new Map(documents.map((document) => [document, [] as (readonly [string, OwnDocument])[]]))
  for (const [root, all] of asked) {
    const found = yield* published.before(
      root,
      all.map(({ recordId }) => recordId),
    )
    for (const [n, { document }] of all.entries()) sides.get(document)?.push([root, found[n] as OwnDocument])
  }
  return documents.map((document) => ({ document, own: sides.get(document) ?? [] }))
}

function* idsOf(published: Published, mirrors: HandlersByTable, document: AppliedDocument): Generator<readonly [root: string, recordId: string]> {
  const { table, removed, entries, recordId, keyColumns } = document
  const options = optionsOf(mirrors, table)
  if (removed) {
    const own = published.tables(targetName(options, table))?.[0]
    const id = own && idOf(own, options(table), valuesOf(keyRecord(keyColumns, recordId)))
    if (own !== undefined && id !== undefined) yield [own.table, id]
    return
  }
  for (const entry of entries) {
    const own = published.tables(targetName(options, entry.table))?.[0]
    const id = own && idOf(own, options(entry.table), valuesOf(entry.record as string))
    if (own !== undefined && id !== undefined) yield [own.table, id]
  }
}

function targetName(options: (table: string) => PlainMirrorOptions, table: string): string {
  return options(table).rename?.table ?? table
}

/** What is no record can't be written either. */
function valuesOf(record: string): Readonly<Record<string, Value>> {
  try {
    return decodeRecord(record)
  } catch {
    return {}
  }
}

function idOf({ key }: OwnTableColumns, options: PlainMirrorOptions, values: Readonly<Record<string, Value>>): string | undefined {
  const senders = sendersOf(options)
  const id = key.map((name) => ownOf(values, senders(name)))
  return id.some((value) => value === undefined) ? undefined : `[${id.map((value) => encodeValue(value as Value)).join(',')}]`
}

function sendersOf(options: PlainMirrorOptions): (name: string) => string {
  const columns = Object.entries(options.rename?.columns ?? {})
  return (name) => columns.find(([, own]) => own === name)?.[0] ?? name
}

/**
 * Whether a document would overwrite what was changed here and central has not acknowledged. Where each side has columns of its own, and neither's rows come or go by the
 * other's, both changes stand.
 *
 * @param isGoing whether a document that is not here was removed here, which central has not acknowledged
 */
export function isContested(
  published: Published,
  mirrors: HandlersByTable,
  { document, own }: OwnSide,
  isGoing: (own: OwnDocument) => boolean,
): boolean {
  const { removals, rows } = optionsOf(mirrors, document.table)(document.table)
  return own.some(([root, one]) => {
    if (document.removed) return removals === 'apply' && one.isThere && !(one.isSealed && one.isAcknowledged)
    if (!one.isThere) return rows !== 'update' && (!one.isSealed || isGoing(one))
    return !(one.isSealed && one.isAcknowledged) && overlaps(published.tables(root) ?? [], mirrors, document)
  })
}

function overlaps(tables: readonly OwnTableColumns[], mirrors: HandlersByTable, document: AppliedDocument): boolean {
  const options = optionsOf(mirrors, document.table)
  const joints = jointsOf(document)
  return [document.table, ...tablesOf(document.shape)].some((table) => {
    const own = tables.find((one) => one.table === targetName(options, table))
    if (own === undefined) return false
    const mine = options(table)
    if (mine.rows !== 'update' && table !== document.table) return true
    const senders = sendersOf(mine)
    const sent = new Set(document.entries.filter((entry) => entry.table === table).flatMap((entry) => Object.keys(valuesOf(entry.record as string))))
    return own.columns.some((name) => {
      const sender = senders(name)
      if (own.key.includes(name) || joints.get(table)?.includes(sender)) return false
      if (mine.map !== undefined) return true
      return sent.has(sender) && (mine.only?.includes(sender) ?? !mine.except?.includes(sender))
    })
  })
}

/** The columns of central's by which parts hang together with what is above them. */
function jointsOf(document: AppliedDocument): ReadonlyMap<string, readonly string[]> {
  const joints = new Map<string, string[]>()
  const add = (shape: AppliedDocument['shape'], above: string) => {
    for (const part of shape) {
      joints.set(above, [...(joints.get(above) ?? []), ...Object.values(part.columns)])
      joints.set(part.table, [...(joints.get(part.table) ?? []), ...Object.keys(part.columns)])
      add(part.parts, part.table)
    }
  }
  add(document.shape, document.table)
  return joints
}

/** Takes down for documents of one root table, which were applied, what of theirs is not to be sent back. */
export function* settleOwn(published: Published, set: MirrorSet, sides: readonly OwnSide[], now: number): Work<void> {
  const quiet = sides.filter(({ own }) => own.some(([, one]) => one.isSealed))
  if (quiet.length === 0) return
  const altered = yield* alteredOf(
    set,
    quiet.map(({ document }) => document),
  )
  const columns = writtenBy(set)
  const all = quiet.flatMap(({ document, own }) => own.map(([root, one]) => ({ root, one, document })))
  for (const [root, some] of Map.groupBy(all, (one) => one.root)) {
    const meant: Meant = {
      columns,
      rows: new Map(
        [...set.tables].flatMap(([name, table]) => {
          if (table.rows === 'update') return []
          const counts = new Map<string, number>()
          for (const { one, document } of some) counts.set(one.recordId, (counts.get(one.recordId) ?? 0) + countOf(document, name, root, set))
          return [[table.target.name, counts]]
        }),
      ),
      altered: new Set(some.filter(({ document }) => altered.has(document)).map(({ one }) => one.recordId)),
      isNews: (recordId, changed) =>
        isNews(
          set,
          some.filter(({ one }) => one.recordId === recordId).map(({ document }) => document),
          changed,
        ),
      now,
    }
    yield* published.after(
      root,
      some.map(({ one }) => one),
      meant,
    )
  }
}

/** How many records of a table a document brings; of a part that is published by itself one. */
function countOf(document: AppliedDocument, table: string, root: string, set: MirrorSet): number {
  if (root !== set.table(set.root).target.name) return 1
  return document.removed ? 0 : document.entries.filter((entry) => entry.table === table).length
}

/** The columns of each table that were written in all of its records. */
function writtenBy(set: MirrorSet): ReadonlyMap<string, ReadonlySet<string>> {
  const records = recordsOf(set.documents.filter(({ removed }) => !removed))
  return new Map(
    [...set.tables].map(([name, table]) => {
      const [first = new Set<string>(), ...others] = table.prepare(records.get(name) ?? []).map(({ written }) => new Set(written))
      return [table.target.name, others.reduce((common, one) => common.intersection(one), first)]
    }),
  )
}

/** Whether more rows have changed in one of these columns than hold something else than what came. */
function* isNews(set: MirrorSet, documents: readonly AppliedDocument[], changed: ReadonlyMap<string, ReadonlyMap<string, number>>): Work<boolean> {
  const records = recordsOf(documents.filter(({ removed }) => !removed))
  for (const [name, table] of set.tables) {
    for (const group of table.prepare(records.get(name) ?? [])) {
      for (const column of group.written) {
        const count = changed.get(table.target.name)?.get(column) ?? 0
        if (count === 0 || table.target.key.includes(column)) continue
        const of = { ...group, columns: [...table.key, column], written: [column], rows: 'update' as const }
        if ((yield* set.mirroring.differing(of)).length < Math.min(count, group.records.length)) return true
      }
    }
  }
  return false
}

/** Documents that are not as they were to be written: the host's triggers have made something else of them. */
function* alteredOf(set: MirrorSet, documents: readonly AppliedDocument[]): Work<ReadonlySet<AppliedDocument>> {
  const altered = new Set<AppliedDocument>()
  const search = function* (some: readonly AppliedDocument[]): Work<void> {
    if (some.length === 0 || !(yield* anyAltered(set, some))) return
    const half = Math.ceil(some.length / 2)
    if (some.length === 1) altered.add(some[0] as AppliedDocument)
    else for (const part of [some.slice(0, half), some.slice(half)]) yield* search(part)
  }
  yield* search(documents)
  return altered
}

function* anyAltered(set: MirrorSet, documents: readonly AppliedDocument[]): Work<boolean> {
  const records = recordsOf(documents.filter(({ removed }) => !removed))
  for (const [name, table] of set.tables) {
    for (const group of table.prepare(records.get(name) ?? [])) {
      const rows = table.rows === 'update' ? 'update' : 'known'
      if ((yield* set.mirroring.differing({ ...group, rows })).length > 0) return true
    }
  }
  const table = set.table(set.root)
  if (table.rows === 'update') return false
  const gone = documents.filter(({ removed }) => removed).map(({ keyColumns, recordId }) => keyRecord(keyColumns, recordId))
  return gone.length > 0 && (yield* set.found(table, table.sent(table.key, gone))).length > 0
}
