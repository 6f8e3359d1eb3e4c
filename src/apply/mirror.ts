import { TillsyncError } from '../errors.ts'
import type { AnyDocument, PartShape } from '../model.ts'
import type { ApplyingDatabase, HostTable, MirrorRows, Work } from '../ports.ts'
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
      yield* findTarget(database, table, targetsOf(database))
    },
    *apply(documents, context) {
      const present = documents.filter((document) => !document.removed)
      yield* new Mirror(options, targetsOf(context.database), context).apply(present)
    },
  }
}

function checkOptions(options: MirrorOptions): void {
  const other = Object.keys(options).find((name) => name !== 'origin')
  if (other !== undefined) throw new TillsyncError('ERR_OPTION', `\`mirror.${other}\` is not an option`, { hint: 'Known here: origin.' })
  const { origin } = options
  if (origin === undefined || (Array.isArray(origin) && origin.length === 2 && origin[0] === 'location' && origin[1] === 'register')) return
  throw new TillsyncError('ERR_OPTION', "Expected `mirror.origin` to be ['location', 'register']", {
    hint: 'These two columns belong to the primary key of each mirrored table.',
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
    throw new TillsyncError('ERR_NO_KEY', `mirror() can't tell the records of \`${name}\` apart: it has no primary key`, { context: { table: name } })
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

  *apply(documents: readonly AppliedDocument[]): Work<void> {
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

  /** Parts that a former version had and this one has not, those furthest down first. */
  private *removeGone(
    above: string,
    parents: readonly string[],
    shape: readonly PartShape[],
    records: ReadonlyMap<string, readonly string[]>,
  ): Work<void> {
    if (parents.length === 0) return
    for (const part of shape) {
      const table = yield* this.target(part.table)
      const parent = yield* this.target(above)
      const gone = yield* this.context.database.mirroring.strays(
        table,
        part.columns,
        this.rows(parent, Object.values(part.columns), parents),
        records.get(part.table) ?? [],
      )
      yield* this.removeGone(part.table, [...(records.get(part.table) ?? []), ...gone], part.parts, records)
      yield* this.context.database.mirroring.remove(
        this.rows(
          table,
          table.key.filter((name) => !(name in this.constants)),
          gone,
        ),
      )
    }
  }

  private *upsertAll(name: string, shape: readonly PartShape[], records: ReadonlyMap<string, readonly string[]>): Work<void> {
    for (const [columns, alike] of Map.groupBy(records.get(name) ?? [], columnsOf)) {
      const names = JSON.parse(columns) as string[]
      const present = [...names, ...Object.keys(this.constants)]
      let table = yield* this.target(name)
      // The host may have added a column since we looked.
      if (unknownColumn(table, present) !== undefined) table = yield* findTarget(this.context.database, name, this.targets)
      checkColumns(table, present)
      const generated = table.columns.filter((column) => column.generated).map((column) => column.name)
      const written = names.filter((column) => !(column in this.constants) && !generated.includes(column))
      yield* this.context.database.mirroring.upsert(this.rows(table, written, alike))
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

/** The names of a record's columns, as JSON: records with equal ones are written together. */
function columnsOf(record: string): string {
  return JSON.stringify(Object.keys(JSON.parse(record) as object))
}
