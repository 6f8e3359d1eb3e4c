import type { PartShape, RegisterName } from '../model.ts'
import type { RegisterDatabase } from '../ports.ts'
import type { Published } from '../two-way.ts'
import { type Work, writing } from '../work.ts'
import { type IncomingDocument, toApplied } from './audience-documents.ts'
import { contest } from './contested.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext, HandlersByTable } from './handler.ts'
import { applyInOrder } from './in-order.ts'
import { dropKept, keepColumns } from './kept-columns.ts'
import { MirrorSet } from './mirror-set.ts'
import { type OwnSide, settleOwn } from './own-documents.ts'
import { type Division, divide, type Failed } from './quarantine-division.ts'
import { forget, nameOf, receive, receivedOf } from './received-documents.ts'
import { changesBetween, type RowWatch, rowsOf } from './row-changes.ts'
import { StockLevels } from './stock-levels.ts'
import { fitting, optionsOf } from './subscribed-mirrors.ts'
import type { LeftOut } from './subscription-standing.ts'
import { endWait, isAnyWaiting, type ToWait, type Waiting, wait } from './waiting-documents.ts'

/** A document on its way into the register's tables: as it came, or as it waited. */
export type Arrival = Omit<Waiting, 'cause'>

/** What becomes of documents that arrive here. */
export interface Reception {
  readonly database: RegisterDatabase
  readonly mirrors: HandlersByTable
  readonly name: RegisterName
  /** Where any of the tables is published too. */
  readonly published: Published | undefined
  readonly watch: RowWatch | undefined
  readonly now: number
}

/** What became of them. */
export interface Outcome {
  readonly applied: readonly IncomingDocument[]
  readonly waits: readonly ToWait[]
  /** The names of those of them that were not refused before. */
  readonly news: ReadonlySet<string>
  readonly leftOut: readonly LeftOut[]
}

/** Applies documents, each whole, in the caller's transaction: what can't be applied waits, and nothing else does. */
export class AudienceSlice {
  private readonly reception: Reception
  private readonly division: Division
  private readonly arrivals: readonly Arrival[]
  /** By the entries of the documents that are made of them, which their copies have too. */
  private readonly byEntries = new Map<AppliedDocument['entries'], Arrival>()
  private readonly applied: Arrival[] = []
  private readonly waits: ToWait[] = []
  private readonly leftOut = new Map<string, LeftOut>()
  private sides = new Map<string, OwnSide>()
  /** What of shapes has tables here. */
  private readonly shapes = new Map<readonly PartShape[], readonly PartShape[]>()

  constructor(reception: Reception, arrivals: readonly Arrival[], division: Division) {
    this.reception = reception
    this.arrivals = arrivals
    this.division = division
  }

  *apply(): Work<Outcome> {
    const { database } = this.reception
    const received = yield* receivedOf(database, this.arrivals)
    const isAny = yield* isAnyWaiting(database)
    const { meant, contested } = yield* this.sort(received)
    for (const arrival of contested) this.waits.push({ ...arrival, verdict: { cause: 'changed' } })
    // Behind a savepoint nothing can be read in turns.
    if (this.division.mode !== 'together') yield* writing()
    this.division.applying()
    yield* this.applyAll(meant)
    const news = yield* this.keep(received, isAny)
    return { applied: this.applied, waits: this.waits, news, leftOut: [...this.leftOut.values()] }
  }

  /** What is to be applied: not what was changed here meanwhile, nor the end of what never came, unless central has it from here. */
  private *sort(received: ReadonlySet<string>): Work<{ readonly meant: readonly AppliedDocument[]; readonly contested: readonly Arrival[] }> {
    const { published, mirrors } = this.reception
    const neverCame = (one: { readonly table: string; readonly recordId: string }) => !received.has(nameOf(one))
    const documents: AppliedDocument[] = []
    for (const arrival of this.arrivals) {
      if (published === undefined && arrival.records.length === 0 && neverCame(arrival)) this.applied.push(arrival)
      else documents.push(yield* this.toApplied(arrival))
    }
    if (published === undefined) return { meant: documents, contested: [] }
    const { sides, contested } = yield* contest(published, mirrors, documents, received)
    const others = sides.filter(({ document, own }) => document.removed && neverCame(document) && !own.some(([, one]) => one.isGiven))
    const passed = new Set(others.map(({ document }) => nameOf(document)))
    for (const { document } of others) this.applied.push(this.arrivalOf(document))
    this.sides = new Map(sides.map((side) => [nameOf(side.document), side]))
    const isMeant = (one: { readonly table: string; readonly recordId: string }) => !passed.has(nameOf(one))
    return {
      meant: documents.filter((document) => isMeant(document) && !contested.has(nameOf(document))),
      contested: this.arrivals.filter((arrival) => isMeant(arrival) && contested.has(nameOf(arrival))),
    }
  }

  private *toApplied(arrival: Arrival): Work<AppliedDocument> {
    const { database, mirrors } = this.reception
    const shape = this.shapes.get(arrival.shape) ?? (yield* fitting(database, mirrors, arrival.table, arrival.shape, (table) => this.leave(table)))
    this.shapes.set(arrival.shape, shape)
    const document = toApplied(arrival, shape, arrival.keyColumns)
    this.byEntries.set(document.entries, arrival)
    return document
  }

  private *applyAll(documents: readonly AppliedDocument[]): Work<void> {
    const { database } = this.reception
    const attempt = (part: readonly AppliedDocument[]) => this.attempt(part)
    const kept = (part: readonly AppliedDocument[]) => void this.applied.push(...part.map((document) => this.arrivalOf(document)))
    if (documents.length === 0) return
    if (this.division.mode === 'together') {
      yield* attempt(documents)
      return kept(documents)
    }
    yield* divide(database, this.division, documents, attempt, {
      kept: (_, part) => kept(part),
      failed: ({ document, verdict }: Failed) => void this.waits.push({ ...this.arrivalOf(document), verdict }),
    })
  }

  private arrivalOf(document: AppliedDocument): Arrival {
    return this.byEntries.get(document.entries) as Arrival
  }

  /** All of it in the transaction, the deferred constraints too, so that it is known whose fault a failure is. */
  private *attempt(documents: readonly AppliedDocument[]): Work<void> {
    const { database, mirrors, published, watch, now } = this.reception
    const sets = yield* this.setsOf(documents)
    const before = watch && (yield* this.rows(sets, watch))
    yield* applyInOrder(database, mirrors, documents, this.context(), (_handler, _documents, work) => work)
    yield* database.mirroring.settle()
    if (watch && before) {
      const after = yield* this.rows(sets, watch)
      for (const [n, rows] of before.entries()) yield* watch.changed(changesBetween(rows, after[n] ?? new Map()))
    }
    if (published === undefined) return
    for (const set of sets) {
      const sides = this.sidesOf(set.documents)
      yield* settleOwn(published, set, sides, now)
      yield* keepColumns(published, set, sides, (document) => this.arrivalOf(document).snapshotNo)
    }
  }

  private *rows(sets: readonly MirrorSet[], watch: RowWatch) {
    const rows = []
    for (const set of sets) rows.push(yield* rowsOf(set, watch.tables))
    return rows
  }

  private sidesOf(documents: readonly AppliedDocument[]): readonly OwnSide[] {
    return documents.flatMap((document) => {
      const side = this.sides.get(nameOf(document))
      return side ? [{ ...side, document }] : []
    })
  }

  /** By root table, where anything but the mirrors looks at them. */
  private *setsOf(documents: readonly AppliedDocument[]): Work<readonly MirrorSet[]> {
    const { mirrors, published, watch } = this.reception
    if (published === undefined && watch === undefined) return []
    const sets: MirrorSet[] = []
    for (const [root, group] of Map.groupBy(documents, (document) => document.table))
      sets.push(yield* MirrorSet.open(group, this.context(), (table) => optionsOf(mirrors, root)(table)))
    return sets
  }

  private context(): ApplyContext {
    const { database, name } = this.reception
    return {
      database,
      origin: { ...name, registerId: 0, epoch: '', epochNo: 0 },
      levels: new StockLevels(),
      late: false,
      *stands(table, recordIds) {
        const received = yield* receivedOf(
          database,
          recordIds.map((recordId) => ({ table, recordId })),
        )
        return new Set(recordIds.filter((recordId) => received.has(nameOf({ table, recordId }))))
      },
      leftOut: (table, column) => this.leave(table, column),
    }
  }

  private leave(table: string, column?: string): void {
    const name: LeftOut = column === undefined ? [table] : [table, column]
    this.leftOut.set(JSON.stringify(name), name)
  }

  /** Takes down what stands here because of central, and what waits. */
  private *keep(received: ReadonlySet<string>, isAnyWaiting: boolean): Work<ReadonlySet<string>> {
    const { database, mirrors, published, now } = this.reception
    const tables = new Set(this.applied.map(({ table }) => table))
    const owned = new Set([...tables].filter((table) => optionsOf(mirrors, table)(table).rows !== 'update'))
    const there = this.applied.filter(({ table, records }) => records.length > 0 && owned.has(table))
    // What could not be applied is confirmed all the same: what there is of it stays.
    const confirmed = this.waits.filter((one) => one.records.length > 0 && received.has(nameOf(one)))
    yield* receive([...there, ...confirmed])
    const gone = this.applied.filter(({ records }) => records.length === 0)
    yield* forget(gone.filter((one) => received.has(nameOf(one))))
    if (published !== undefined) yield* dropKept(gone)
    if (isAnyWaiting) yield* endWait(this.applied)
    return yield* wait(database, this.waits, now)
  }
}
