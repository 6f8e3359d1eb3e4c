import { hash, randomBytes } from 'node:crypto'
import { TillsyncError } from '../errors.ts'
import { hasOwnTable, readState, writeState } from '../migrate.ts'
import { MOST_ANCESTORS, type Point, type RegisterName, type Standing } from '../model.ts'
import type { CapturingDatabase } from '../ports.ts'
import { compiledOnce, insert, query, together, type Work } from '../work.ts'
import { AUDIENCES } from './audience-tables.ts'
import { BEGUN, lastEntry } from './collector.ts'
import { askReseal } from './reseal.ts'
import { DIGESTS, ENTRIES, MEMBERS } from './tables.ts'

/** The history of the stream that a database publishes: what it is called now, and what it was called before. */
export interface History {
  readonly epoch: string
  /** Former epochs, the oldest first, each through its last entry that is still of this history. */
  readonly ancestors: readonly Ancestor[]
  /** How the epoch began; undefined for the first. */
  readonly branch: Branch | undefined
  readonly head: Point
  /** The first entry that is neither pruned nor told anew by a later one; one beyond the head where there is none. */
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
const REGISTER = 'register'
const PAST = 'past'

type Past = Pick<History, 'ancestors' | 'branch'> & {
  /** Entries up to here are told anew by later ones. */
  readonly anewBehind?: number | undefined
}

/** By this key it is kept at which entries epochs began with digests of their own. */
const STARTS = 'starts'

const NO_PAST: Past = { ancestors: [], branch: undefined }

/** @throws ERR_OPTION where head office publishes from the database */
export function* refuseShared(database: CapturingDatabase): Work<void> {
  if (yield* hasOwnTable(database, AUDIENCES)) throw shared()
}

/** Gives a database its first epoch, if it has none. */
export function* beginHistory(database: CapturingDatabase): Work<void> {
  if ((yield* readState(database, EPOCH)) === undefined) yield* writeState(EPOCH, newEpoch())
}

/**
 * Notes as whose history it is sent, before anything leaves. A copy of another till's database, or a till that was given another name, would send under this one what was posted under the other.
 *
 * @throws ERR_FOREIGN_REGISTER
 */
export function* claimHistory(database: CapturingDatabase, { location, register }: RegisterName): Work<void> {
  const owner = yield* readState(database, REGISTER)
  const own = JSON.stringify([location, register])
  if (owner === undefined) yield* writeState(REGISTER, own)
  if (owner === undefined || owner === own) return
  const [formerLocation, formerRegister] = JSON.parse(owner) as [string, string]
  throw new TillsyncError(
    'ERR_FOREIGN_REGISTER',
    `This database holds the history of ${formerLocation}/${formerRegister}, not of ${location}/${register}`,
    {
      hint: 'What it has not sent yet is to be sent under the former name. Then uninstall() and install(): its own history begins, and what stands in the tables is withheld (`existing`).',
      context: { location: formerLocation, register: formerRegister },
    },
  )
}

/** Of two that note changes in the same schema each would undo the other's triggers. */
export function shared(): TillsyncError {
  return new TillsyncError('ERR_OPTION', 'Head office and a register would publish from the same schema', {
    hint: 'Each needs a database, or a schema, of its own: postgres(pool, { schema }).',
  })
}

/** What the history is called now. */
export function readEpoch(database: CapturingDatabase): Work<string | undefined> {
  return readState(database, EPOCH)
}

const oldestOf = compiledOnce(({ build }) => build.selectFrom(ENTRIES.name).select('entry_no').orderBy('entry_no').limit(1).compile())

/** Undefined where the library's tables hold no epoch. */
export function* readHistory(database: CapturingDatabase): Work<History | undefined> {
  const [epoch, past, head, [oldest]] = yield* together(
    readState(database, EPOCH),
    readPast(database),
    lastEntry(database),
    query<{ entry_no: number }>(oldestOf(database)),
  )
  if (epoch === undefined) return undefined
  const { ancestors, branch, anewBehind = 0 } = past
  return { epoch, ancestors, branch, head, first: Math.max(oldest?.entry_no ?? head.entryNo + 1, anewBehind + 1) }
}

function* readPast(database: CapturingDatabase): Work<Past> {
  const past = yield* readState(database, PAST)
  return past === undefined ? NO_PAST : (JSON.parse(past) as Past)
}

/**
 * Goes on in a new epoch behind the last point that the subscriber has too. Where what lies behind it was pruned (`anew`), or the log is gone, all that `tables` hold
 * is sealed anew, in the background. Does nothing where another process has done so meanwhile. While it lasts nothing may be sealed.
 *
 * An epoch that tells all anew begins with a digest of its own: what lies before it was never sent, and no copy of this database may take the subscriber's standing there for
 * a proof that it was.
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
  const next = newEpoch()
  const start = anew ? { entryNo: head.entryNo, digest: hash('sha256', `${next}\n${head.digest}`) } : undefined
  const through = anew ? head.entryNo : common.entryNo
  const past: Past = {
    ancestors: [...ancestors.map((one) => ({ ...one, through: Math.min(one.through, through) })), { epoch, through }].slice(-MOST_ANCESTORS),
    branch: { from, common, ...(start && { start }) },
    anewBehind: start?.entryNo ?? (yield* readPast(database)).anewBehind,
  }
  if (start) {
    yield* writeState(BEGUN, JSON.stringify(start))
    // By it points are found; sealing does without.
    yield* insert(DIGESTS, [[start.entryNo, Buffer.from(start.digest, 'hex')]], DIGESTS.primaryKey)
    yield* writeState(STARTS, JSON.stringify([...(yield* readStarts(database)), start.entryNo]))
  }
  yield* writeState(EPOCH, next)
  yield* writeState(PAST, JSON.stringify(past))
  if (anew || (yield* isLogLost(database, head))) for (const table of tables) yield* askReseal(database, table, true)
}

export function* readStarts(database: CapturingDatabase): Work<readonly number[]> {
  return JSON.parse((yield* readState(database, STARTS)) ?? '[]') as readonly number[]
}

/** Documents were given, and no entry says so: somebody has dropped the log. */
function* isLogLost({ build }: CapturingDatabase, head: Point): Work<boolean> {
  if (head.entryNo > 0) return false
  return (yield* query(build.selectFrom(MEMBERS.name).select('table_name').where('state', '=', 'given').limit(1).compile())).length > 0
}

function newEpoch(): string {
  return randomBytes(12).toString('base64url')
}
