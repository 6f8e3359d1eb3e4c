import { randomBytes } from 'node:crypto'
import { readState, writeState } from '../migrate.ts'
import type { Point, Standing } from '../model.ts'
import { type CapturingDatabase, query, type Work } from '../ports.ts'
import { lastEntry } from './collector.ts'
import { askReseal } from './reseal.ts'
import { ENTRIES, MEMBERS } from './tables.ts'

/** The history of the stream that a database publishes: what it is called now, and what it was called before. */
export interface History {
  readonly epoch: string
  /** Former epochs, the oldest first, each through its last entry that is still of this history. */
  readonly ancestors: readonly Ancestor[]
  /** How the epoch began; undefined for the first. */
  readonly branch: Branch | undefined
  readonly head: Point
  /** The first entry that is not pruned; one beyond the head where there is none. */
  readonly first: number
}

interface Ancestor {
  readonly epoch: string
  readonly through: number
}

/** Where an epoch began. */
export interface Branch {
  /** Where the subscriber stood, which is not in our history, or behind what we have of it. */
  readonly from: Standing
  /** The last point that both have. */
  readonly common: Point
  /** Where the entries of the epoch begin, where all is sealed anew behind what was pruned. */
  readonly start?: Point | undefined
}

const EPOCH = 'epoch'
const PAST = 'past'
/** Of a database that was restored more often the oldest epochs are forgotten. */
const MOST_ANCESTORS = 100

type Past = Pick<History, 'ancestors' | 'branch'>

/** Gives a database its first epoch, if it has none. */
export function* beginHistory(database: CapturingDatabase): Work<void> {
  if ((yield* readState(database, EPOCH)) === undefined) yield* writeState(EPOCH, newEpoch())
}

/** What the history is called now. */
export function readEpoch(database: CapturingDatabase): Work<string | undefined> {
  return readState(database, EPOCH)
}

/** Undefined where the library's tables hold no epoch. */
export function* readHistory(database: CapturingDatabase): Work<History | undefined> {
  const epoch = yield* readState(database, EPOCH)
  if (epoch === undefined) return undefined
  const past = yield* readState(database, PAST)
  const { ancestors, branch } = past === undefined ? { ancestors: [], branch: undefined } : (JSON.parse(past) as Past)
  const head = yield* lastEntry(database)
  const [oldest] = yield* query<{ entry_no: number }>(
    database.build.selectFrom(ENTRIES.name).select('entry_no').orderBy('entry_no').limit(1).compile(),
  )
  return { epoch, ancestors, branch, head, first: oldest?.entry_no ?? head.entryNo + 1 }
}

/**
 * Goes on in a new epoch behind the last point that the subscriber has too. Where what lies behind it was pruned (`anew`), or the log is gone, all that `tables` hold
 * is sealed anew, in the background. Does nothing where another process has done so meanwhile.
 */
export function* branchOff(
  database: CapturingDatabase,
  known: History,
  { from, common, anew }: Omit<Branch, 'start'> & { readonly anew: boolean },
  tables: readonly string[],
): Work<void> {
  const history = yield* readHistory(database)
  if (history === undefined || history.epoch !== known.epoch) return
  const { epoch, ancestors, head } = history
  const through = anew ? head.entryNo : common.entryNo
  const past: Past = {
    ancestors: [...ancestors.map((one) => ({ ...one, through: Math.min(one.through, through) })), { epoch, through }].slice(-MOST_ANCESTORS),
    branch: { from, common, ...(anew && { start: { entryNo: head.entryNo, digest: head.digest } }) },
  }
  yield* writeState(EPOCH, newEpoch())
  yield* writeState(PAST, JSON.stringify(past))
  if (anew || (yield* isLogLost(database, head))) for (const table of tables) yield* askReseal(database, table, true)
}

/** Documents were given, and no entry says so: somebody has dropped the log. */
function* isLogLost({ build }: CapturingDatabase, head: Point): Work<boolean> {
  if (head.entryNo > 0) return false
  return (yield* query(build.selectFrom(MEMBERS.name).select('table_name').where('state', '=', 'given').limit(1).compile())).length > 0
}

function newEpoch(): string {
  return randomBytes(12).toString('base64url')
}
