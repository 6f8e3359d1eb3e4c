import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { checkNames, known, readLimit, readReason, unlessGiven, whole } from '../options.ts'
import type { ApplyingDatabase, Clock, Received, ReleasedDocument } from '../ports.ts'
import { query, type Work } from '../work.ts'
import type { Try } from './batch.ts'
import { Handling, type Subscribed } from './handling.ts'
import { type LeftOpen, postOpen } from './left-open.ts'
import { Quarantine } from './quarantine.ts'
import { type Division, dividing } from './quarantine-division.ts'
import { listQuarantine, type Quarantined, type QuarantineState, type WhichQuarantined } from './quarantine-list.ts'
import { dueCondition, retryWaiting, type WhichDue, type WhichWaiting } from './quarantine-retry.ts'
import { lockRegister } from './register-row.ts'
import { ARCHIVE, QUARANTINE, REGISTERS } from './tables.ts'

/** What became of documents that were tried again. */
export interface Retried {
  /** Applied. */
  readonly released: number
  /** They wait on; `list()` says why. */
  readonly waiting: number
}

/** Documents that could not be applied: each holds up itself, nothing else. */
export interface QuarantineFace {
  /** By id. Default: the first 100 that wait. `limit` is at most 1,000. @throws ERR_OPTION */
  list(
    which?: WhichQuarantined & { readonly state?: QuarantineState; readonly after?: number; readonly limit?: number },
  ): Promise<readonly Quarantined[]>
  /**
   * Tries a document again now, or all that wait of a register, a location, a table: in the order in which they came, parents before what refers to them.
   *
   * @throws ERR_QUARANTINE where there is none by this id, or it is settled; ERR_BUSY (retryable), ERR_OPTION
   */
  retry(which: number | WhichQuarantined): Promise<Retried>
  /**
   * Gives the waiting version up: nothing of it is posted, and the reason is kept. What an older version has posted stays; a newer version is applied like any other.
   *
   * @throws ERR_QUARANTINE where there is none by this id, or it is settled; ERR_OPTION without a reason; ERR_BUSY (retryable)
   */
  discard(id: number, options: { readonly reason: string }): Promise<void>
}

/** What the book needs of central. */
export interface QuarantineBookOptions {
  readonly database: ApplyingDatabase
  readonly subscribed: Subscribed
  readonly clock: Clock
  readonly leftOpen: LeftOpen
  ready(): Promise<void>
  /** Runs it when there is a lane. */
  lane<T>(work: () => Promise<T>): Promise<T>
  /** Tells what became of documents of a register. */
  tell(register: RegisterName, outcome: Pick<Received, 'quarantined' | 'released'>): void
}

/** What came of trying again; what waited and waits on is nothing new. */
interface Turn {
  readonly released: readonly ReleasedDocument[]
  /** For how many documents something was posted. */
  readonly postings: number
}

/** The same of many turns. */
export interface Turns {
  readonly released: number
  readonly postings: number
}

/** A register of which documents wait. */
export type WaitingRegister = RegisterName & { readonly registerId: number }

export class QuarantineBook implements QuarantineFace {
  private readonly options: QuarantineBookOptions
  private readonly table: string

  constructor(options: QuarantineBookOptions) {
    this.options = options
    this.table = options.database.qualify(QUARANTINE.name)
  }

  async list(which: Parameters<QuarantineFace['list']>[0] = {}): Promise<readonly Quarantined[]> {
    known('which', which, ['location', 'register', 'table', 'state', 'after', 'limit'])
    const { location, register, table, state = 'waiting' } = which
    checkNames({ location, register, table })
    if (state !== 'waiting' && state !== 'discarded')
      throw new TillsyncError('ERR_OPTION', "Expected `state` to be 'waiting' or 'discarded'", {
        hint: "quarantine.list({ state: 'discarded' })",
        context: { option: 'state' },
      })
    const after = whole('after', unlessGiven(which.after, 0), 0)
    const limit = readLimit(which.limit, 100)
    await this.options.ready()
    return this.options.database.read(() => listQuarantine(this.options.database, which, state, after, limit))
  }

  async retry(which: number | WhichQuarantined): Promise<Retried> {
    const isOne = typeof which === 'number'
    if (isOne) whole('id', which, 1)
    else checkWhich(which)
    const { database, ready } = this.options
    await ready()
    const rows = await database.read(() => this.waiting(isOne ? { id: which } : which))
    if (isOne && rows.length === 0) throw settled(which)
    for (const all of Map.groupBy(rows, ({ registerId }) => registerId).values()) await this.retryAll(all)
    return database.read(() => this.outcomeOf(rows.map(({ id }) => id)))
  }

  /** Whoever has tried them last: the background, another process, or a batch with a newer version may have come in between. What is applied is gone from here. */
  private *outcomeOf(ids: readonly number[]): Work<Retried> {
    const rows = yield* query<{ state: QuarantineState }>({
      sql: `SELECT state FROM ${this.table} WHERE quarantine_id = ANY ($1::bigint[])`,
      parameters: [ids],
    })
    return { released: ids.length - rows.length, waiting: rows.filter(({ state }) => state === 'waiting').length }
  }

  /** Tries documents of a table of a register again: those that were received since a time; with `missing` only those that refer to something missing. */
  async again(register: WaitingRegister, which: { table: string; since: string | undefined; missing: boolean }, signal: AbortSignal): Promise<Turns> {
    const { location, register: name } = register
    const rows = await this.options.database.read(() => this.waiting({ location, register: name, ...which }))
    return this.retryAll(rows, signal)
  }

  async discard(id: number, options: { readonly reason: string }): Promise<void> {
    whole('id', id, 1)
    const reason = readReason(options, 'quarantine.discard')
    const { database, clock, ready } = this.options
    await ready()
    const at = new Date(clock.now()).toISOString()
    await dividing(database, (division) => this.settle(id, reason, at, division))
  }

  /** One turn of a register: documents of its quarantine, in one transaction. Where more turns come, closings are left open. */
  async turn(register: WaitingRegister, which: WhichWaiting, more = false): Promise<Turn> {
    const { database, subscribed, clock, lane, tell } = this.options
    const work = (division: Division) => retryTurn(database, subscribed, register, which, { division, now: clock.now(), more })
    const outcome = await lane(() => dividing(database, work, 'apart'))
    tell(register, outcome)
    return outcome
  }

  /** Registers that have documents whose time has come. */
  due(which: WhichDue): Promise<readonly WaitingRegister[]> {
    const { database, subscribed } = this.options
    const { table } = this
    const [condition, parameters] = dueCondition(2, which)
    return database.read(function* () {
      const rows = yield* query<{ register_id: number; location: string; register: string }>({
        sql: `SELECT DISTINCT r.register_id, r.location, r.register FROM ${table} q JOIN ${database.qualify(REGISTERS.name)} r USING (register_id)
              WHERE q.state = 'waiting' AND q.table_name = ANY ($1::text[]) AND ${condition} ORDER BY r.register_id`,
        parameters: [[...subscribed.handlers.keys()], ...parameters],
      })
      return rows.map(({ register_id, location, register }) => ({ registerId: register_id, location, register }))
    })
  }

  /** What fails for want of another one is tried once more, as long as others are released. */
  private async retryAll(rows: readonly (WaitingRegister & { readonly id: number })[], signal?: AbortSignal): Promise<Turns> {
    const { perTurn } = this.options.subscribed.retry
    const [register] = rows
    if (register === undefined) return { released: 0, postings: 0 }
    if (rows.length <= perTurn) {
      const { released, postings } = await this.turn(register, { ids: rows.map(({ id }) => id) })
      return { released: released.length, postings }
    }
    let left = rows.map(({ id }) => id)
    let postings = 0
    try {
      for (let before = 0; left.length > 0 && left.length !== before; ) {
        before = left.length
        const released = new Set<number>()
        for (let at = 0; at < before && !signal?.aborted; at += perTurn) {
          const outcome = await this.turn(register, { ids: left.slice(at, at + perTurn) }, true)
          for (const { id } of outcome.released) released.add(id)
          postings += outcome.postings
        }
        left = left.filter((id) => !released.has(id))
      }
    } finally {
      // What each closing waits for is looked for among all that waits: once, not with each turn.
      postings += await this.options.leftOpen.settle(register.registerId)
    }
    return { released: rows.length - left.length, postings }
  }

  private *waiting(
    which: WhichQuarantined & { readonly id?: number; readonly since?: string | undefined; readonly missing?: boolean },
  ): Work<readonly (WaitingRegister & { readonly id: number })[]> {
    const { database } = this.options
    const rows = yield* query<{ id: number; register_id: number; location: string; register: string }>({
      sql: `SELECT q.quarantine_id AS id, r.register_id, r.location, r.register
            FROM ${this.table} q JOIN ${database.qualify(REGISTERS.name)} r USING (register_id)
            WHERE q.state = 'waiting' AND q.quarantine_id = coalesce($1, q.quarantine_id) AND r.location = coalesce($2, r.location)
              AND r.register = coalesce($3, r.register) AND q.table_name = coalesce($4, q.table_name) AND (q.cause = 'missing' OR NOT $6)
              AND ($5::timestamptz IS NULL OR EXISTS (SELECT FROM ${database.qualify(ARCHIVE.name)} a
                   WHERE a.register_id = q.register_id AND a.epoch_no = q.epoch_no AND a.entry_no = q.entry_no AND a.received_at >= $5))
            ORDER BY r.register_id, q.epoch_no, q.entry_no`,
      parameters: [
        which.id ?? null,
        which.location ?? null,
        which.register ?? null,
        which.table ?? null,
        which.since ?? null,
        which.missing ?? false,
      ],
    })
    return rows.map(({ id, register_id, location, register }) => ({ id, registerId: register_id, location, register }))
  }

  private *settle(id: number, reason: string, at: string, division: Division): Work<void> {
    const { database, subscribed } = this.options
    const [row] = yield* query<{ register_id: number }>({ sql: `SELECT register_id FROM ${this.table} WHERE quarantine_id = $1`, parameters: [id] })
    if (row === undefined) throw settled(id)
    yield* lockRegister(database, row.register_id)
    const done = yield* query({
      sql: `UPDATE ${this.table} SET state = 'discarded', reason = $2, settled_at = $3 WHERE quarantine_id = $1 AND state = 'waiting' RETURNING 1 AS one`,
      parameters: [id, reason, at],
    })
    if (done.length === 0) throw settled(id)
    // A closing may have waited for it alone, and the till may be closed for the day.
    yield* postOpen(database, subscribed, row.register_id, division)
  }
}

interface TurnOptions extends Try {
  /** Whether more turns come, so that closings are left open. */
  readonly more: boolean
}

/** Tries waiting documents of a register again, inside the caller's transaction. */
function* retryTurn(
  database: ApplyingDatabase,
  subscribed: Subscribed,
  register: WaitingRegister,
  which: WhichWaiting,
  { division, now, more }: TurnOptions,
): Work<Turn> {
  yield* lockRegister(database, register.registerId)
  const handling = new Handling(database, subscribed, division)
  const quarantine = new Quarantine(database, register.registerId, subscribed.retry, now)
  yield* handling.begin(register.registerId)
  yield* retryWaiting(database, subscribed, register, which, handling, quarantine)
  yield* handling.finish(more ? NOWHERE : undefined)
  const { released } = quarantine.outcome
  return { released, postings: handling.postings }
}

/** Before all entries. */
const NOWHERE = { epochNo: 0, entryNo: 0 }

/** @throws ERR_OPTION */
function checkWhich(which: WhichQuarantined): void {
  if (typeof which !== 'object' || which === null)
    throw new TillsyncError('ERR_OPTION', 'Expected an id, or which documents: { location?, register?, table? }', { hint: 'quarantine.retry(17)' })
  known('which', which, ['location', 'register', 'table'])
  const { location, register, table } = which
  checkNames({ location, register, table })
}

function settled(id: number): TillsyncError {
  return new TillsyncError('ERR_QUARANTINE', `No document ${id} waits in quarantine`, {
    hint: 'quarantine.list() shows those that wait; one that was applied meanwhile is gone from there.',
    context: { id },
  })
}
