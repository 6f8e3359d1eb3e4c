import { TillsyncError } from '../errors.ts'
import { readState, STATE, writeState } from '../migrate.ts'
import type { PartShape } from '../model.ts'
import type { Clock, RegisterDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import type { HandlersByTable } from './handler.ts'
import { rulesOf } from './subscribed-mirrors.ts'
import { nowhere, type Place, readPlaces } from './subscription-standing.ts'

/** By this key it is kept by which rules central's root tables are taken: a JSON array of [table, since, rules, shape]. */
const RULES = 'subscribed.rules'

/** By which rules a root table is taken. */
interface InForce {
  /** When the process began that put them there. */
  readonly since: number
  /** As `rulesOf` has them for this shape: by what came later they may differ. */
  readonly rules: string
  readonly shape: readonly PartShape[]
}
export type AllInForce = ReadonlyMap<string, InForce>

export interface ReceivingRulesOptions {
  readonly database: RegisterDatabase
  readonly mirrors: HandlersByTable
  readonly clock: Clock
}

/**
 * By which rules what central sends becomes rows, where two processes of a register have different ones: those of the process that came last, as of what is published (capture/rules-in-force.ts), but table by table. The other
 * one takes nothing of that table any more. Without that each would find the rows to be others than its own rules make, and have all of them come again, for ever.
 */
export class ReceivingRules {
  private readonly options: ReceivingRulesOptions
  private isBegun = false
  /** When it came, and what was in force then. */
  private came: { readonly at: number; readonly before: AllInForce } | undefined

  constructor(options: ReceivingRulesOptions) {
    this.options = options
  }

  /** With the next look its rules are in force; from now on it counts as the one that came last. */
  async comeNow(): Promise<void> {
    this.forget()
    this.came = await this.come()
  }

  /** It is as if it had not come yet. */
  forget(): void {
    this.isBegun = false
    this.came = undefined
  }

  /** Once: puts its rules in force, but for those tables of which another one that came later did so while this one waited. */
  async begin(): Promise<void> {
    if (this.isBegun) return
    this.came ??= await this.come()
    const { at, before } = this.came
    const { database, mirrors } = this.options
    const there = await database.read(() => readPlaces(database))
    const places = [...mirrors.keys()].map((table) => there.get(table) ?? nowhere(table))
    const isIn = (all: AllInForce, place: Place) => this.isOwn(all.get(place.table), place.table)
    const known = await database.read(() => this.read())
    if (!places.every((place) => isIn(known, place))) {
      await database.write(
        function* (this: ReceivingRules): Work<void> {
          yield* database.lockReceiving()
          const now = yield* this.read()
          const isLater = (found: InForce | undefined, table: string) =>
            found !== undefined && found.since > at && JSON.stringify(found) !== JSON.stringify(before.get(table))
          yield* this.put(places.filter((place) => !isIn(now, place) && !isLater(now.get(place.table), place.table)))
        }.bind(this),
        { lazily: true },
      )
    }
    this.isBegun = true
  }

  /** What is in force. */
  read(): Work<AllInForce> {
    return readInForce(this.options.database)
  }

  /** Of these tables those that another process takes by other rules. */
  others(places: readonly Place[], inForce: AllInForce): ReadonlySet<string> {
    if (!this.isBegun) return new Set()
    return new Set(places.filter((place) => this.isOthers(place, inForce.get(place.table))).map(({ table }) => table))
  }

  /** So they are taken from now on, in the caller's transaction. */
  *put(places: readonly Place[]): Work<void> {
    if (places.length === 0) return
    const { mirrors } = this.options
    const all = new Map(yield* this.read())
    const since = this.came?.at ?? 0
    for (const { table, shape } of places) all.set(table, { since, rules: rulesOf(mirrors, table, shape), shape })
    yield* writeState(RULES, JSON.stringify([...all].map(([table, one]) => [table, one.since, one.rules, one.shape])))
  }

  private isOwn(known: InForce | undefined, table: string): boolean {
    return known !== undefined && known.rules === rulesOf(this.options.mirrors, table, known.shape)
  }

  private isOthers({ table, rules, shape }: Place, known: InForce | undefined): boolean {
    if (known === undefined) return false
    if (!this.isOwn(known, table)) return true
    // By parts that have come since it is another one's.
    return known.since > (this.came?.at ?? 0) && rules !== '' && rules !== rulesOf(this.options.mirrors, table, shape)
  }

  /** To be read before anything is waited for that somebody may hold. */
  private async come() {
    const { database, clock } = this.options
    const at = clock.now()
    const before = await database.read(function* (): Work<AllInForce> {
      const columns = (yield* database.columnsOf([STATE.name])).get(STATE.name) ?? []
      return Object.keys(STATE.columns).every((name) => columns.includes(name)) ? yield* readInForce(database) : new Map()
    })
    return { at, before }
  }
}

/** What is to be said of a table that another process takes. */
export function takenByOthers(table: string): TillsyncError {
  return new TillsyncError(
    'ERR_SCHEMA_NEWER',
    `Another process takes what central sends of \`${table}\` by other rules than those of this one, and came later`,
    {
      hint: 'Is it the new version of the host, or an old one that goes on? End whichever is out of date. Where the rules of this process are the right ones, call install().',
      context: { table },
    },
  )
}

function* readInForce(database: RegisterDatabase): Work<AllInForce> {
  const text = yield* readState(database, RULES)
  const all = text === undefined ? [] : (JSON.parse(text) as readonly [string, number, string, readonly PartShape[]][])
  return new Map(all.map(([table, since, rules, shape]) => [table, { since, rules, shape }]))
}
