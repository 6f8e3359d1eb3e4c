import { isUtf8 } from 'node:buffer'
import { TillsyncError } from '../errors.ts'
import type { AnyDocument, PartShape, Value } from '../model.ts'
import type { ApplyingDatabase, HostTable, MirrorRows, Work } from '../ports.ts'
import { decodeRecord } from '../record.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext, Handler } from './handler.ts'

export interface MirrorOptions {
  /** Key columns of the target that are filled with the sender's location and register, so that registers that number alike stay apart. */
  readonly origin?: readonly ['location', 'register']
}

/**
 * Keeps tables of the same names equal to the documents' latest versions: the root's and its parts', lines that are gone
 * included. The removal of a whole document is ignored: a till that purges old receipts does not take them from head
 * office. Values become the target's column types; a column that the till does not send is left alone.
 */
export function mirror<D = AnyDocument>(options: MirrorOptions = {}): Handler<D> {
  checkOptions(options)
  const targets = new WeakMap<ApplyingDatabase, Map<string, HostTable>>()
  const targetsOf = (database: ApplyingDatabase): Map<string, HostTable> => {
    const known = targets.get(database) ?? new Map<string, HostTable>()
    targets.set(database, known)
    return known
  }
  return {
    name: 'mirror',
    tables: [],
    *check(database, table) {
      targets.delete(database)
      const target = yield* findTarget(database, table, targetsOf(database))
      for (const column of options.origin ?? []) checkOrigin(target, column)
    },
    *apply(documents, context) {
      const present = documents.filter((document) => !document.removed)
      yield* new Mirror(options, targetsOf(context.database), context).apply(present)
    },
    withdraw: (documents, context) => new Mirror(options, targetsOf(context.database), context).remove(documents),
  }
}

function checkOptions(options: MirrorOptions): void {
  if (typeof options !== 'object' || options === null)
    throw new TillsyncError('ERR_OPTION', 'Expected the options of mirror() to be an object', {
      hint: "mirror({ origin: ['location', 'register'] })",
    })
  const other = Object.keys(options).find((name) => name !== 'origin')
  if (other !== undefined) throw new TillsyncError('ERR_OPTION', `\`mirror.${other}\` is not an option`, { hint: 'Known here: origin.' })
  const { origin } = options
  if (origin === undefined || (Array.isArray(origin) && origin.length === 2 && origin[0] === 'location' && origin[1] === 'register')) return
  throw new TillsyncError('ERR_OPTION', "Expected `mirror.origin` to be ['location', 'register']", {
    hint: 'These two columns belong to the primary key of each mirrored table.',
  })
}

function checkOrigin(table: HostTable, column: string): void {
  if (table.key.includes(column)) return
  const there = table.columns.some(({ name }) => name === column)
  throw new TillsyncError(there ? 'ERR_RULE' : 'ERR_UNKNOWN_COLUMN', `\`${column}\` is no column of the primary key of \`${table.name}\``, {
    hint: "With `origin`, 'location' and 'register' are part of the primary key, so that registers that number alike stay apart.",
    context: { table: table.name, column },
  })
}

function* findTarget(database: ApplyingDatabase, name: string, targets: Map<string, HostTable>): Work<HostTable> {
  const table = (yield* database.describe([name])).get(name)
  if (table === undefined) {
    throw new TillsyncError('ERR_UNKNOWN_TABLE', `mirror() has no table \`${name}\` to write to`, {
      hint: 'Create it at central, with a primary key.',
      context: { table: name },
    })
  }
  if (table.key.length === 0) {
    throw new TillsyncError('ERR_NO_KEY', `mirror() can't tell the records of \`${name}\` apart: it has no primary key`, {
      hint: 'Give it the primary key that its records have at the till.',
      context: { table: name },
    })
  }
  targets.set(name, table)
  return table
}

/** One set of documents on its way into the tables. */
class Mirror {
  private readonly constants: Readonly<Record<string, string>>
  private readonly targets: Map<string, HostTable>
  private readonly context: ApplyContext

  constructor(options: MirrorOptions, targets: Map<string, HostTable>, context: ApplyContext) {
    const { location, register } = context.origin
    this.constants = options.origin ? { location, register } : {}
    this.targets = targets
    this.context = context
  }

  *apply(all: readonly AppliedDocument[]): Work<void> {
    const documents = this.context.late ? yield* this.fitting(all) : all
    const [first] = documents
    if (first === undefined) return
    const records = new Map<string, string[]>()
    for (const { table, record } of documents.flatMap((document) => document.entries)) {
      const all = records.get(table) ?? []
      all.push(record as string)
      records.set(table, all)
    }
    const known = documents.filter((document) => !document.isNew)
    yield* this.removeGone(
      first.table,
      known.map(({ entries }) => entries[0]?.record as string),
      first.shape,
      records,
    )
    yield* this.upsertAll(first.table, first.shape, records)
  }

  /** Those of which no part has the key of another document's part; what does not fit is left out whole. */
  private *fitting(documents: readonly AppliedDocument[]): Work<readonly AppliedDocument[]> {
    const fitting: AppliedDocument[] = []
    for (const document of documents) {
      if (yield* this.fits(document, document.table, document.shape)) fitting.push(document)
    }
    return fitting
  }

  private *fits(document: AppliedDocument, above: string, shape: readonly PartShape[]): Work<boolean> {
    const recordsOf = (table: string) => document.entries.flatMap((entry) => (entry.table === table ? [entry.record as string] : []))
    for (const part of shape) {
      const table = yield* this.target(part.table)
      const key = table.key.filter((name) => !Object.hasOwn(this.constants, name))
      const { mirroring } = this.context.database
      const byKey = Object.fromEntries(key.map((name) => [name, name]))
      const there = yield* mirroring.strays(table, byKey, this.rows(table, key, recordsOf(part.table)), [])
      const parents = this.rows(yield* this.target(above), Object.values(part.columns), recordsOf(above))
      const own = new Set(there.length === 0 ? [] : yield* mirroring.strays(table, part.columns, parents, []))
      if (there.some((record) => !own.has(record)) || !(yield* this.fits(document, part.table, part.parts))) return false
    }
    return true
  }

  /** The documents with their parts. */
  *remove(documents: readonly AppliedDocument[]): Work<void> {
    const [first] = documents
    if (first === undefined) return
    const roots = documents.map(({ entries }) => entries[0]?.record as string)
    yield* this.removeGone(first.table, roots, first.shape, new Map())
    const table = yield* this.target(first.table)
    const key = table.key.filter((name) => !Object.hasOwn(this.constants, name))
    yield* this.context.database.mirroring.remove(this.rows(table, key, roots))
  }

  /** Parts that a former version had and this one has not, those furthest down first. */
  private *removeGone(
    above: string,
    parents: readonly string[],
    shape: readonly PartShape[],
    records: ReadonlyMap<string, readonly string[]>,
  ): Work<void> {
    for (const part of shape) {
      const kept = records.get(part.table) ?? []
      const table = yield* this.target(part.table)
      const parent = this.rows(yield* this.target(above), Object.values(part.columns), parents)
      const gone = yield* this.context.database.mirroring.strays(table, part.columns, parent, kept)
      // A new document's part may take the key of one that is gone, and must not inherit what hung on it.
      yield* this.removeGone(part.table, [...kept, ...gone], part.parts, records)
      const key = table.key.filter((name) => !Object.hasOwn(this.constants, name))
      yield* this.context.database.mirroring.remove(this.rows(table, key, gone))
    }
  }

  private *upsertAll(name: string, shape: readonly PartShape[], records: ReadonlyMap<string, readonly string[]>): Work<void> {
    const own = records.get(name) ?? []
    let table = yield* this.target(name)
    for (const [columns, alike] of Map.groupBy(latest(own, table.key), ({ columns }) => columns)) {
      const names = JSON.parse(columns) as string[]
      const present = [...names, ...Object.keys(this.constants)]
      // The host may have added a column since we looked.
      if (unknownColumn(table, present) !== undefined) table = yield* findTarget(this.context.database, name, this.targets)
      checkColumns(table, present)
      const generated = table.columns.filter((column) => column.generated).map((column) => column.name)
      const written = names.filter((column) => !Object.hasOwn(this.constants, column) && !generated.includes(column))
      yield* this.context.database.mirroring.upsert(
        this.rows(
          table,
          written,
          alike.map(({ record }) => record),
        ),
      )
    }
    for (const part of shape) yield* this.upsertAll(part.table, part.parts, records)
  }

  private rows(table: HostTable, columns: readonly string[], records: readonly string[]): MirrorRows {
    return { table, columns, records, constants: this.constants }
  }

  private *target(name: string): Work<HostTable> {
    return this.targets.get(name) ?? (yield* findTarget(this.context.database, name, this.targets))
  }
}

function unknownColumn(table: HostTable, names: readonly string[]): string | undefined {
  return names.find((name) => !table.columns.some((column) => column.name === name))
}

/** @throws ERR_MIRROR where the target lacks a column that is sent, or the sender a column of the target's key */
function checkColumns(table: HostTable, names: readonly string[]): void {
  const unknown = unknownColumn(table, names)
  if (unknown !== undefined) {
    throw new TillsyncError('ERR_MIRROR', `\`${table.name}\` has no column \`${unknown}\`, which the register sends`, {
      hint: 'Add the column at central, or leave it out at the register with `except`.',
      context: { table: table.name, column: unknown },
    })
  }
  const missing = table.key.find((name) => !names.includes(name))
  if (missing !== undefined) {
    throw new TillsyncError('ERR_MIRROR', `The register does not send \`${missing}\`, a key column of \`${table.name}\``, {
      hint: "Publish it, or let mirror fill it: mirror({ origin: ['location', 'register'] }).",
      context: { table: table.name, column: missing },
    })
  }
}

interface Mirrored {
  readonly record: string
  /** The names of its columns, as JSON: records with equal ones are written together. */
  readonly columns: string
}

/**
 * Of records with the same key the last: a line that one document gave up and another took within the batch stands in both.
 */
function latest(records: readonly string[], key: readonly string[]): readonly Mirrored[] {
  const found = new Map<string, Mirrored>()
  for (const record of records) {
    const values = decodeRecord(record)
    const name = JSON.stringify(key.map((column) => (Object.hasOwn(values, column) ? keyText(values[column] as Value) : '')))
    found.delete(name)
    found.set(name, { record, columns: JSON.stringify(Object.keys(values)) })
  }
  return [...found.values()]
}

/** Bytes that are no text would all look alike as one. */
function keyText(value: Value): string {
  return value instanceof Uint8Array && !isUtf8(value) ? `\\x${Buffer.from(value).toString('hex')}` : String(value)
}
