import { TillsyncError } from '../errors.ts'
import { type AudienceBatch, type AudienceStanding, type Finding, MOST_UNAPPLIED, type UnappliedDocument } from '../model.ts'
import type { AudienceSubscriber, Taken } from '../ports.ts'
import type { Work } from '../work.ts'
import { checkBatch, type IncomingDocument, incomingIn } from './audience-documents.ts'
import type { Arrival, Outcome } from './audience-slice.ts'
import { AudienceSlices, type AudienceSlicesOptions } from './audience-slices.ts'
import { ColumnUpkeep } from './column-upkeep.ts'
import { setAside } from './former-documents.ts'
import { emptied, noteCame, noteVersions, versionsOf } from './made-anew.ts'
import { markOutdated } from './outdated.ts'
import { nameOf } from './received-documents.ts'
import { ReceivingRules } from './receiving-rules.ts'
import { ReceivingTurn } from './receiving-turn.ts'
import { SnapshotEnd } from './snapshot-end.ts'
import { rulesOf } from './subscribed-mirrors.ts'
import { lookOut, type Outlook, type SubscriptionProblem, subscriptionFindings } from './subscription-outlook.ts'
import {
  BEGIN,
  comeAgain,
  isNext,
  isSamePlace,
  type LeftOut,
  nowhere,
  type Place,
  readPlace,
  writeLeftOut,
  writePlace,
} from './subscription-standing.ts'
import {
  countWaiting,
  isAnyWaiting,
  listWaiting,
  type ToWait,
  unapplied,
  type WaitingDocument,
  type WaitingName,
  waitingName,
} from './waiting-documents.ts'
import { WaitingTries } from './waiting-tries.ts'

export interface AudienceSubscriptionOptions extends Omit<AudienceSlicesOptions, 'turn'> {
  /** What came of documents of a table. */
  onApplied(applied: Applied): void
  /** Documents that wait from now on; at most `MOST_UNAPPLIED` of them. */
  onUnapplied(documents: readonly UnappliedDocument[]): void
  onProblems(problems: readonly SubscriptionProblem[]): void
}

/** What was applied of a root table. */
export interface Applied {
  readonly table: string
  /** Documents that were written, or were as they should be. */
  readonly documents: number
  /** Documents that central publishes no more for this register. */
  readonly removed: number
}

/** How far the register has come in a root table. */
export interface SubscriptionStatus {
  readonly table: string
  readonly entryNo: number
  /** Whether all of it is here that central had when it was last asked. */
  readonly isComplete: boolean
  /** When something of it last came; ISO 8601, UTC. */
  readonly receivedAt: string | undefined
  /** Documents that wait here: they could not be applied, or were changed here, which central has not acknowledged. */
  readonly waiting: number
  /** What central sends and the tables here do not have: `items.unit_size`, or a table. */
  readonly leftOut: readonly string[]
}

/** A register's side of what central publishes: takes batches, slice by slice, and says how far it has come. One thing at a time. */
export class AudienceSubscription implements AudienceSubscriber {
  private readonly options: AudienceSubscriptionOptions
  private readonly turn: ReceivingTurn
  private readonly rules: ReceivingRules
  private readonly slices: AudienceSlices
  private readonly ends: SnapshotEnd
  private readonly tries: WaitingTries
  private readonly columns: ColumnUpkeep
  private last: Promise<unknown> = Promise.resolve()
  private stopping = new AbortController()
  private told = ''
  /** How the tables stood when they were last looked at. */
  private stood: string | undefined
  /** Something was altered since what was refused was last tried: what the host has refused it may take by now. */
  private isAltered = false
  /** Tables of parts of which records have come. */
  private readonly came = new Set<string>()

  constructor(options: AudienceSubscriptionOptions) {
    this.options = options
    this.turn = new ReceivingTurn(options.database)
    this.rules = new ReceivingRules(options)
    const slices = { ...options, turn: this.turn }
    this.slices = new AudienceSlices(slices)
    this.ends = new SnapshotEnd(slices, this.slices)
    this.tries = new WaitingTries(slices, this.slices)
    this.columns = new ColumnUpkeep(options)
  }

  /** From now on it counts as the one that came last: with what it does next its rules are in force. */
  willInstall(): Promise<void> {
    return this.rules.comeNow()
  }

  /** What was under way when it was stopped: ends of snapshots, and what waits. */
  resume(): Promise<void> {
    this.stopping = new AbortController()
    return this.receiving(async () => {
      await this.rules.comeNow()
      const outlook = await this.look()
      await this.telling(async (tell) => {
        await this.ends.run(outlook.tables, this.signal, tell)
        await this.tries.all({ outlook, signal: this.signal, tell })
      })
    })
  }

  /** Waits for the transaction under way. */
  async stop(): Promise<void> {
    this.stopping.abort()
    await this.last
    this.stopping = new AbortController()
    this.stood = undefined
    this.came.clear()
    this.rules.forget()
  }

  standings(): Promise<readonly AudienceStanding[]> {
    return this.inTurn(async () => {
      const { tables, places } = await this.look()
      return tables.map((table) => {
        const { stream, entryNo, mark } = places.get(table) ?? nowhere(table)
        return { table, stream, entryNo, mark }
      })
    })
  }

  unapplied(): Promise<readonly UnappliedDocument[]> {
    const { database, mirrors } = this.options
    return database.read(() => unapplied(database, [...mirrors.keys()]), { loosely: true })
  }

  take(batches: readonly AudienceBatch[]): Promise<Taken> {
    return this.receiving(async () => {
      const own = batches.filter(({ table }) => this.options.mirrors.has(table))
      for (const batch of own) checkBatch(batch)
      const outlook = await this.look()
      const { tables } = outlook
      const there = own.filter(({ table }) => tables.includes(table)).toSorted((a, b) => tables.indexOf(a.table) - tables.indexOf(b.table))
      if (there.length > 0) await this.options.publishing?.seal()
      await this.putRight(outlook)
      const taken: AudienceBatch[] = []
      const applied = await this.telling(async (tell, applied, refused) => {
        // What waits is looked at before what has come is applied, by whichever process.
        if (there.length > 0 && (await this.isAnyWaiting())) await this.turn.acquire(this.signal)
        for (const batch of there) if (await this.takeOne(batch, tables, tell)) taken.push(batch)
        await this.ends.run(tables, this.signal, tell)
        const news = applied()
        const now = news.size > 0 ? await this.look() : outlook
        if (this.isAltered) this.tries.again(now)
        this.isAltered = false
        await this.tries.afterTake({ outlook: now, signal: this.signal, tell }, news, refused())
      })
      return { isAny: taken.length > 0, received: taken.reduce((sum, { documents }) => sum + documents.length, 0), applied }
    })
  }

  /** A table that was dropped a moment ago is found out when it is asked for, and is not there then. */
  private async outlook(): Promise<Outlook> {
    const { database, mirrors } = this.options
    const read = () => database.read(() => lookOut(database, mirrors, this.rules))
    return read().catch((thrown) => (thrown instanceof TillsyncError && thrown.code === 'ERR_UNKNOWN_TABLE' ? read() : Promise.reject(thrown)))
  }

  async status(): Promise<{
    readonly subscriptions: readonly SubscriptionStatus[]
    readonly unapplied: readonly WaitingDocument[]
    readonly problems: readonly SubscriptionProblem[]
  }> {
    const { database, mirrors } = this.options
    const { tables, places, problems } = await this.outlook()
    return database.read(function* () {
      const waiting = yield* countWaiting(database)
      return {
        subscriptions: tables.map((table) => statusOf(places.get(table) as Place, waiting.get(table) ?? 0)),
        unapplied: yield* listWaiting(database, [...mirrors.keys()]),
        problems,
      }
    })
  }

  async check(): Promise<readonly Finding[]> {
    return subscriptionFindings(this.options.mirrors, await this.outlook())
  }

  private get signal(): AbortSignal {
    return this.stopping.signal
  }

  private inTurn<T>(run: () => Promise<T>): Promise<T> {
    const done = this.last.then(run)
    this.last = done.catch(() => undefined)
    return done
  }

  /** Of all processes one at a time. */
  private receiving<T>(run: () => Promise<T>): Promise<T> {
    return this.inTurn(() => run().finally(() => this.turn.release(this.signal)))
  }

  private isAnyWaiting(): Promise<boolean> {
    const { database } = this.options
    return database.read(() => isAnyWaiting(database), { loosely: true })
  }

  /** How the tables stand; those whose rows would be others by now begin anew. */
  private async look(): Promise<Outlook> {
    const { database, mirrors, onProblems } = this.options
    const { rules } = this
    await rules.begin()
    const outlook = await this.outlook()
    const { gone, problems } = outlook
    const text = JSON.stringify(problems.map(({ table, error }) => [table, error.code]))
    if (text !== this.told && problems.length > 0) onProblems(problems)
    this.told = text
    const stood = versionsOf(outlook)
    const lost = stood === this.stood ? undefined : await database.read(() => emptied(database, mirrors, outlook), { loosely: true })
    if (lost !== undefined) this.isAltered = true
    const changed = [...outlook.changed, ...(lost ?? [])]
    if (lost === undefined && changed.length === 0 && gone.length === 0) {
      this.stood = stood
      return outlook
    }
    await database.write(
      function* () {
        for (const place of gone) yield* writeLeftOut(database, place)
        yield* database.lockReceiving()
        const others = rules.others(changed, yield* rules.read())
        for (const place of changed.filter(({ table }) => !others.has(table))) {
          if (!isSamePlace(yield* readPlace(database, place.table), place)) continue
          yield* comeAgain(place)
          yield* rules.put([place])
        }
        yield* noteVersions(stood)
      },
      { lazily: true },
    )
    this.stood = stood
    return changed.length === 0 && gone.length === 0 ? outlook : this.outlook()
  }

  /** What was changed here of columns that only central writes; not while it is open which documents there are. */
  private async putRight({ tables, places }: Outlook): Promise<void> {
    const sound = tables.filter((table) => places.get(table)?.state === 'complete')
    const refused = await this.columns.run(sound, this.signal)
    if (refused.length > 0) this.options.onUnapplied(refused.slice(0, MOST_UNAPPLIED))
  }

  private async takeOne(batch: AudienceBatch, tables: readonly string[], tell: (outcome: Outcome) => void): Promise<boolean> {
    const { database } = this.options
    const { table, shape, keyColumns } = batch
    let place = await database.read(() => readPlace(database, table), { loosely: true })
    if (!isNext(place, batch)) return false
    const isSnapshot = batch.after === 0
    if (place.state === 'ending' && !isSnapshot) {
      await this.ends.run(tables, this.signal, tell)
      place = { ...place, state: 'complete' }
    }
    if (isSnapshot && place.keyColumns.length > 0 && JSON.stringify(place.keyColumns) !== JSON.stringify(keyColumns)) {
      const begun = await this.beginAnew(place)
      if (begun === undefined) return false
      place = begun
    }
    const snapshotNo = place.snapshotNo + (isSnapshot ? 1 : 0)
    await markOutdated(database, this.turn, batch)
    const arrivals = incomingIn(batch).map((incoming): Arrival => ({ ...incoming, snapshotNo, shape, keyColumns }))
    return this.slices.apply(arrivals, this.around(batch, place), this.signal, tell)
  }

  /** Under another key; undefined where another process has done so. */
  private async beginAnew(place: Place): Promise<Place | undefined> {
    const { database } = this.options
    const { turn } = this
    const begun = { ...place, ...BEGIN }
    await turn.acquire(this.signal)
    const isBegun = await database.write(
      function* () {
        yield* turn.goOn()
        if (!isSamePlace(yield* readPlace(database, place.table), place)) return false
        yield* writePlace(begun)
        return true
      },
      { lazily: true },
    )
    if (!isBegun) return undefined
    await setAside(database, turn, begun)
    return begun
  }

  /** Each slice finds the place as the one before has left it; the last one leaves it where the batch ends. */
  private around(batch: AudienceBatch, from: Place) {
    const { database, mirrors, clock } = this.options
    const { table, shape, keyColumns, stream, through, mark, isEnd, after } = batch
    const isSnapshot = after === 0
    const { came } = this
    const parts = [...new Set(batch.documents.flatMap(({ records }) => records.slice(1).map((record) => record.table)))]
    let expected = from
    let next = from
    const leftOut = new Map(isSnapshot ? [] : from.leftOut.map((one): [string, LeftOut] => [JSON.stringify(one), one]))
    const about = (): Partial<Place> => ({
      shape,
      keyColumns,
      rules: rulesOf(mirrors, table, shape),
      leftOut: [...leftOut.values()],
      receivedAt: new Date(clock.now()).toISOString(),
    })
    return {
      *before(): Work<boolean> {
        return isSamePlace(yield* readPlace(database, table), expected)
      },
      *after(outcome: Outcome, isFirst: boolean, isLast: boolean): Work<void> {
        for (const one of outcome.leftOut) leftOut.set(JSON.stringify(one), one)
        next = expected
        if (isFirst && isSnapshot) next = { ...next, ...BEGIN, snapshotNo: next.snapshotNo + 1 }
        if (isLast) next = { ...next, stream, entryNo: through, mark, state: isEnd && next.state === 'open' ? endOf(next) : next.state }
        if (!isFirst && !isLast) return
        yield* writePlace({ ...next, ...about() })
        if (parts.some((part) => !came.has(part))) yield* noteCame(database, parts)
      },
      /** The slice is committed. */
      done(): void {
        expected = next
        for (const part of parts) came.add(part)
      },
    }
  }

  /** Says at the end what was applied, and what waits from now on. Answers how many documents were applied. */
  private async telling(
    work: (tell: (outcome: Outcome) => void, applied: () => ReadonlySet<string>, refused: () => readonly WaitingName[]) => Promise<void>,
  ): Promise<number> {
    const { onApplied, onUnapplied } = this.options
    const applied = new Map<string, { documents: number; removed: number }>()
    const refused = new Map<string, ToWait>()
    const news = new Set<string>()
    const tell = (outcome: Outcome): void => {
      for (const document of outcome.applied) {
        count(applied, document)
        refused.delete(nameOf(document))
      }
      for (const one of outcome.waits) if (one.verdict.cause !== 'changed') refused.set(nameOf(one), one)
      for (const name of outcome.news) news.add(name)
    }
    try {
      await work(
        tell,
        () => new Set(applied.keys()),
        () => [...refused.values()].map(waitingName),
      )
      return [...applied.values()].reduce((sum, { documents, removed }) => sum + documents + removed, 0)
    } finally {
      for (const [table, counts] of applied) onApplied({ table, ...counts })
      const told = [...refused].flatMap(([name, { table, recordId, verdict }]) =>
        news.has(name) && verdict.cause !== 'changed' ? [{ table, recordId, code: verdict.code, message: verdict.message }] : [],
      )
      if (told.length > 0) onUnapplied(told.slice(0, MOST_UNAPPLIED))
    }
  }
}

/** Before the first snapshot nothing was here that could go. */
function endOf({ snapshotNo }: Place): Place['state'] {
  return snapshotNo === 1 ? 'complete' : 'ending'
}

function count(applied: Map<string, { documents: number; removed: number }>, { table, records }: IncomingDocument): void {
  const counts = applied.get(table) ?? { documents: 0, removed: 0 }
  applied.set(table, counts)
  if (records.length > 0) counts.documents++
  else counts.removed++
}

function statusOf({ table, entryNo, state, stream, receivedAt, leftOut }: Place, waiting: number): SubscriptionStatus {
  return {
    table,
    entryNo,
    isComplete: stream !== undefined && state === 'complete',
    receivedAt,
    waiting,
    leftOut: leftOut.map((names) => names.join('.')),
  }
}
