import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { isoTime } from './archived.ts'
import { readEpochs } from './epochs.ts'
import type { OrphanState } from './orphans.ts'
import type { QuarantineState } from './quarantine-list.ts'
import { DOCUMENTS, LIVES, ORPHANS, QUARANTINE } from './tables.ts'
import { closingsOf, postingsOf, type TracedClosing, type TracedPosting } from './trace-postings.ts'
import type { Place } from './trace-search.ts'

/** Where the latest version of a document stands, and which life of its key that is. */
export interface KnownDocument extends Place {
  readonly incarnation: number
  readonly lives: number
  readonly removed: boolean
  /** How many were received; those that came in one batch may count as one. */
  readonly versions: number
  readonly born: Place
  readonly state: 'lost' | 'back' | 'wanted' | null
}

/** A life of the key that is over: the version that stands of it, where it began, and the removal that ended it, if one did. */
export interface OverLife {
  readonly incarnation: number
  readonly at: Place
  readonly born: Place
  readonly removal: Place | undefined
}

/** What became of a life of a document that its register has lost. */
export interface TracedOrphan {
  readonly id: number
  readonly incarnation: number
  readonly state: OrphanState
  readonly reason: string | undefined
  /** ISO 8601, UTC. */
  readonly orphanedAt: string
  readonly settledAt: string | undefined
}

/** A version that could not be applied. */
export interface TracedQuarantine {
  readonly id: number
  readonly incarnation: number
  readonly state: QuarantineState
  readonly code: string
  readonly message: string
  readonly hint: string | undefined
  readonly attempts: number
  /** ISO 8601, UTC. */
  readonly quarantinedAt: string
  readonly triedAt: string
  /** Why it was discarded. */
  readonly reason: string | undefined
}

/** All that stands beside the archive about a document. */
export interface Facts {
  /** By their numbers. */
  readonly epochs: ReadonlyMap<number, string>
  /** Undefined where somebody has deleted it, or nothing but a part of it has come. */
  readonly known: KnownDocument | undefined
  /** The latest 100. */
  readonly over: readonly OverLife[]
  readonly orphans: readonly (TracedOrphan & { readonly at: Place })[]
  /** `applied`: the version that stands meanwhile. */
  readonly quarantine: readonly (TracedQuarantine & {
    readonly at: Place
    readonly removal: Place | undefined
    readonly applied: Place | undefined
  })[]
  readonly postings: readonly TracedPosting[]
  readonly closings: readonly TracedClosing[]
}

/** Of a key that is used, or a document that is discarded, again and again the latest. */
const MOST = 100

export function* factsOf(database: ApplyingDatabase, registerId: number, table: string, recordId: string): Work<Facts> {
  const epochs = new Map((yield* readEpochs(database, registerId)).map(({ epoch_no, epoch }) => [epoch_no, epoch]))
  const key = [registerId, table, recordId]
  const known = yield* knownDocument(database, key)
  return {
    epochs,
    known,
    over: yield* livesOver(database, key, known),
    orphans: yield* orphansOf(database, key),
    quarantine: yield* quarantineOf(database, key),
    postings: yield* postingsOf(database, registerId, table, recordId, epochs),
    closings: yield* closingsOf(database, registerId, table, recordId),
  }
}

function* knownDocument(database: ApplyingDatabase, key: readonly unknown[]): Work<KnownDocument | undefined> {
  const [row] = yield* query<{
    incarnation: number
    lives: number
    removed: boolean
    epoch_no: number
    entry_no: number
    versions: number
    born_epoch_no: number
    born_entry_no: number
    state: KnownDocument['state']
  }>({
    sql: `SELECT incarnation, lives, removed, epoch_no, entry_no, versions, born_epoch_no, born_entry_no, state FROM ${database.qualify(DOCUMENTS.name)}
          WHERE register_id = $1 AND table_name = $2 AND record_id = $3`,
    parameters: key,
  })
  if (row === undefined) return undefined
  const { incarnation, lives, removed, versions, state } = row
  const born = { epochNo: row.born_epoch_no, entryNo: row.born_entry_no }
  return { incarnation, lives, removed, versions, state, born, epochNo: row.epoch_no, entryNo: row.entry_no }
}

/** The row of a life that goes on again says nothing. */
function* livesOver(database: ApplyingDatabase, key: readonly unknown[], known: KnownDocument | undefined): Work<Facts['over']> {
  const rows = yield* query<{
    incarnation: number
    epoch_no: number
    entry_no: number
    born_epoch_no: number
    born_entry_no: number
    removal_epoch_no: number | null
    removal_no: number | null
  }>({
    sql: `SELECT incarnation, epoch_no, entry_no, born_epoch_no, born_entry_no, removal_epoch_no, removal_no FROM ${database.qualify(LIVES.name)}
          WHERE register_id = $1 AND table_name = $2 AND record_id = $3 ORDER BY incarnation DESC LIMIT ${MOST}`,
    parameters: key,
  })
  return rows
    .filter(({ incarnation }) => known === undefined || known.removed || incarnation !== known.incarnation)
    .map((row) => ({
      incarnation: row.incarnation,
      at: { epochNo: row.epoch_no, entryNo: row.entry_no },
      born: { epochNo: row.born_epoch_no, entryNo: row.born_entry_no },
      removal: placeOf(row.removal_epoch_no, row.removal_no),
    }))
}

function* orphansOf(database: ApplyingDatabase, key: readonly unknown[]): Work<Facts['orphans']> {
  const rows = yield* query<{
    orphan_id: number
    incarnation: number
    epoch_no: number
    entry_no: number
    state: OrphanState
    reason: string | null
    orphaned: string
    settled: string | null
  }>({
    sql: `SELECT orphan_id, incarnation, epoch_no, entry_no, state, reason, ${isoTime('orphaned_at')} AS orphaned, ${isoTime('settled_at')} AS settled
          FROM ${database.qualify(ORPHANS.name)} WHERE register_id = $1 AND table_name = $2 AND record_id = $3 ORDER BY incarnation`,
    parameters: key,
  })
  return rows.map((row) => ({
    id: row.orphan_id,
    incarnation: row.incarnation,
    state: row.state,
    reason: row.reason ?? undefined,
    orphanedAt: row.orphaned,
    settledAt: row.settled ?? undefined,
    at: { epochNo: row.epoch_no, entryNo: row.entry_no },
  }))
}

function* quarantineOf(database: ApplyingDatabase, key: readonly unknown[]): Work<Facts['quarantine']> {
  const rows = yield* query<{
    quarantine_id: number
    incarnation: number
    epoch_no: number
    entry_no: number
    removal_epoch_no: number | null
    removal_no: number | null
    applied_epoch_no: number | null
    applied_no: number | null
    state: QuarantineState
    code: string
    message: string
    hint: string | null
    attempts: number
    quarantined: string
    tried: string
    reason: string | null
  }>({
    sql: `SELECT quarantine_id, incarnation, epoch_no, entry_no, removal_epoch_no, removal_no, applied_epoch_no, applied_no, state, code, message, hint, attempts, reason,
                 ${isoTime('quarantined_at')} AS quarantined, ${isoTime('tried_at')} AS tried
          FROM ${database.qualify(QUARANTINE.name)} WHERE register_id = $1 AND table_name = $2 AND record_id = $3 ORDER BY quarantine_id DESC LIMIT ${MOST}`,
    parameters: key,
  })
  return rows.toReversed().map((row) => ({
    id: row.quarantine_id,
    incarnation: row.incarnation,
    state: row.state,
    code: row.code,
    message: row.message,
    hint: row.hint ?? undefined,
    attempts: row.attempts,
    quarantinedAt: row.quarantined,
    triedAt: row.tried,
    reason: row.reason ?? undefined,
    at: { epochNo: row.epoch_no, entryNo: row.entry_no },
    removal: placeOf(row.removal_epoch_no, row.removal_no),
    applied: placeOf(row.applied_epoch_no, row.applied_no),
  }))
}

function placeOf(epochNo: number | null, entryNo: number | null): Place | undefined {
  return epochNo === null || entryNo === null ? undefined : { epochNo, entryNo }
}

/** Every place that is known of a document: between the first and the last stand all of its versions. */
export function placesOf({ known, over, orphans, quarantine }: Facts): readonly Place[] {
  const former = over.flatMap(({ at, born, removal }) => [at, born, removal])
  const waiting = quarantine.flatMap(({ at, removal, applied }) => [at, removal, applied])
  const all = [known, known?.born, ...former, ...orphans.map(({ at }) => at), ...waiting]
  return all.filter((place) => place !== undefined)
}
