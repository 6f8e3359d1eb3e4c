import { chainDigest } from '../digest.ts'
import { TillsyncError } from '../errors.ts'
import type { Batch, Point } from '../model.ts'
import type { ApplyingDatabase, QuarantinedDocument, ReleasedDocument } from '../ports.ts'
import { ownOf } from '../record.ts'
import { followed, type Insert, query, type Statement, type Work } from '../work.ts'
import { type AppliedDocument, documentsOf, type Origin, setsOf } from './document-set.ts'
import { recognize } from './fork.ts'
import { appliesRemovals } from './handler.ts'
import { type Circumstances, Handling, type Held, type Subscribed } from './handling.ts'
import { adopt } from './late.ts'
import { endLives } from './lives.ts'
import { Quarantine } from './quarantine.ts'
import type { Division, Failed } from './quarantine-division.ts'
import { retryWaiting } from './quarantine-retry.ts'
import type { Priors } from './quarantine-row.ts'
import { ARCHIVE, DOCUMENTS, POINTS, SHAPES } from './tables.ts'

export type { HandlersByTable } from './handler.ts'

/** Where the entries of a batch belong, and how far central stands there. */
export interface Place {
  readonly origin: Origin
  readonly standing: Point
  /** Whether the register may have lost documents that it has sent. */
  readonly unsettled: boolean
  /** An epoch that was superseded, and the last entry that it has in common with what came after: its documents are orphans. */
  readonly late?: { readonly fork: number } | undefined
}

export type Applied =
  | {
      readonly outcome: 'applied'
      readonly through: Point
      readonly documents: number
      readonly entries: number
      readonly quarantined: readonly QuarantinedDocument[]
      readonly released: readonly ReleasedDocument[]
    }
  | { readonly outcome: 'already' | 'not next' }

/** One try of a transaction in which documents are applied. */
export interface Try {
  readonly division: Division
  /** Milliseconds since 1970. */
  readonly now: number
}

/**
 * Applies a batch inside the caller's transaction: archive, handlers and levels commit together, with the standing that the caller writes. Documents at fault go to
 * quarantine; to find them, the transaction is run again, see `dividing`.
 *
 * @throws ERR_DIGEST; what a handler throws, in a first try or by no fault of a document
 */
export function* applyBatch(database: ApplyingDatabase, subscribed: Subscribed, place: Place, offered: Batch, { division, now }: Try): Work<Applied> {
  const { origin, standing } = place
  const outcome = admit(standing, offered)
  if (outcome === 'already') return { outcome }
  const batch = outcome === 'next' ? offered : remainder(standing, offered)
  if (batch === undefined) return { outcome: 'not next' }
  checkDigest(batch)
  const documents = documentsOf(batch)
  const handling = new Handling(database, subscribed, division)
  const quarantine = new Quarantine(database, origin.registerId, subscribed.retry, now)
  const inserts = [...archived(batch, documents, origin), shapesOf(batch, origin)]
  // Behind that: in a set a document is born with its first version.
  const sets = setsOf(documents)
  const application = new Application(database, subscribed, place, handling, quarantine)
  const held = yield* application.begin(inserts, sets[0] ?? [])
  if (held.any) yield* quarantine.load(documents)
  for (const set of sets) yield* application.apply(set, batch.identities)
  if (held.missing || application.isMissing) yield* retryWaiting(database, subscribed, origin, { missingAt: quarantine.at }, handling, quarantine)
  yield* handling.finish()
  return { outcome: 'applied', through: batch.through, documents: documents.length, entries: batch.entries.length, ...quarantine.outcome }
}

/** The documents of a batch on their way to the handlers. */
class Application {
  /** Whether a document that waits now refers to something that may have come with the batch. */
  isMissing = false
  private readonly database: ApplyingDatabase
  private readonly subscribed: Subscribed
  private readonly place: Place
  private readonly handling: Handling
  private readonly quarantine: Quarantine
  private numbered: readonly AppliedDocument[] | undefined

  constructor(database: ApplyingDatabase, subscribed: Subscribed, place: Place, handling: Handling, quarantine: Quarantine) {
    this.database = database
    this.subscribed = subscribed
    this.place = place
    this.handling = handling
    this.quarantine = quarantine
  }

  /** Where nothing is to be known of what stood under the keys of the first set, it is numbered in the same way to the server. */
  *begin(inserts: readonly Insert[], set: readonly AppliedDocument[]): Work<Held> {
    const { database, handling, place, subscribed } = this
    const { origin, late, unsettled } = place
    const begun = handling.begin(origin.registerId, inserts)
    const isKnown = handling.division.mode !== 'together' || late !== undefined || unsettled
    if (isKnown || set.some(({ table, removed }) => removed || subscribed.checks.has(table))) return yield* begun
    const [held, rows] = yield* followed<Held, Numbered>(begun, numbering(database, set, origin))
    number(set, rows)
    this.numbered = set
    return held
  }

  *apply(set: readonly AppliedDocument[], identities: Batch['identities']): Work<void> {
    const { database, place } = this
    const { origin, late } = place
    if (set === this.numbered) return yield* this.handle(set, { refused: [], priors: new Map() }, { origin, late: false, ledgersOnly: false })
    const refused = yield* this.handling.validate(set, origin)
    // Before they are overwritten; where nothing fails nobody asks.
    const suspects = this.handling.division.mode === 'together' ? refused.map(({ document }) => document) : set
    const priors = yield* this.quarantine.priorsOf(suspects)
    const step = { refused, priors }
    if (late !== undefined) {
      const { free, taken } = yield* adopt(database, set, origin, late.fork, identities)
      yield* this.handle(free, step, { origin, late: true, ledgersOnly: false })
      return yield* this.handle(taken, step, { origin, late: true, ledgersOnly: true })
    }
    if (place.unsettled) yield* recognize(database, set, origin, identities)
    yield* endLives(database, set, origin, place.unsettled)
    number(set, yield* query<Numbered>(numbering(database, set, origin)))
    yield* this.handle(set, step, { origin, late: false, ledgersOnly: false })
  }

  /** What fails is in quarantine as soon as it is known, for handlers of other tables look there. */
  private *handle(
    set: readonly AppliedDocument[],
    { refused, priors }: { readonly refused: readonly Failed[]; readonly priors: Priors },
    circumstances: Circumstances,
  ): Work<void> {
    const { quarantine, subscribed } = this
    const { origin } = circumstances
    yield* quarantine.prepare(set, (table) => appliesRemovals(subscribed.handlers, table))
    const there = new Set(set)
    const revived = set.filter((document) => document.before !== undefined)
    const own = [...refused.filter(({ document }) => there.has(document)), ...(yield* this.handling.validate(revived, origin))]
    for (const { document } of own) there.delete(document)
    yield* this.hold(own, priors, origin)
    yield* this.handling.apply([...there], circumstances, {
      applied: (documents) => quarantine.release(documents, origin),
      failed: (failed) => this.hold([failed], priors, origin),
    })
  }

  private *hold(failed: readonly Failed[], priors: Priors, origin: Origin): Work<void> {
    yield* this.quarantine.hold(failed, priors, origin)
    this.isMissing ||= failed.some(({ verdict }) => verdict.cause === 'missing')
  }
}

/** What a batch is to a subscriber that stands there. A frame is none by itself. */
export function admit({ entryNo, digest }: Point, batch: Batch): 'next' | 'already' | 'not next' {
  if (batch.through.entryNo === entryNo && batch.through.digest === digest) return 'already'
  if (batch.frame !== undefined) return 'not next'
  if (batch.after.entryNo === entryNo && batch.after.digest === digest) return 'next'
  return 'not next'
}

/**
 * What a batch brings beyond a point inside it, where it has that very point: the answer to an earlier batch was lost, and
 * the register has cut a longer one from the same place. Undefined where the point is not a document's end in it.
 */
export function remainder(standing: Point, batch: Batch): Batch | undefined {
  if (batch.frame !== undefined) return undefined
  const known = batch.entries.findLastIndex((entry) => entry.entryNo <= standing.entryNo) + 1
  const next = batch.entries[known]
  if (known === 0 || next === undefined || next.document === batch.entries[known - 1]?.document) return undefined
  const digest = batch.entries.slice(0, known).reduce(chainDigest, batch.after.digest)
  if (digest !== standing.digest) return undefined
  return { ...batch, after: { entryNo: standing.entryNo, digest }, entries: batch.entries.slice(known) }
}

function checkDigest(batch: Batch): void {
  let digest = batch.after.digest
  for (const entry of batch.entries) digest = chainDigest(digest, entry)
  if (digest === batch.through.digest) return
  throw new TillsyncError('ERR_DIGEST', 'The entries of the batch do not have the digest that it states', {
    hint: "Were rows of the register's sync_entries changed by hand?",
    context: { after: batch.after.entryNo, through: batch.through.entryNo },
  })
}

function archived(batch: Batch, documents: readonly AppliedDocument[], { registerId, epochNo }: Origin): readonly Insert[] {
  const firsts = documents.flatMap((document) => Array<number>(entriesOf(document)).fill(document.born))
  const rows = batch.entries.map(({ entryNo, table, operation, recordId, record, sealedAt }, n) => {
    return [registerId, epochNo, entryNo, table, operation, recordId, record, firsts[n], sealedAt]
  })
  const { entryNo, digest } = batch.through
  return [
    { table: ARCHIVE, rows },
    { table: POINTS, rows: [[registerId, epochNo, entryNo, Buffer.from(digest, 'hex'), null]] },
  ]
}

/** What is archived is read again one day, by nothing but what central has. */
function shapesOf({ shapes, keys }: Batch, { registerId }: Origin): Insert {
  const rows = Object.keys(shapes).map((table) => [registerId, table, JSON.stringify(shapes[table]), JSON.stringify(ownOf(keys, table) ?? [])])
  return { table: SHAPES, rows, replaceBy: SHAPES.primaryKey, unlessAlike: true }
}

function entriesOf({ entries, baseline }: AppliedDocument): number {
  return entries.length + (baseline?.entries.length ?? 0)
}

/** A removed key, or one whose document the register has lost, begins another life when it is used. */
const BEGINS = "(NOT excluded.removed AND (d.removed OR d.state IS NOT DISTINCT FROM 'lost'))"
/** Lives that are remembered of a key that is used again and again. */
const MOST_LIVES = 20

/** Which life of its key a document is, and how many versions of that key there were. */
interface Numbered {
  readonly table_name: string
  readonly record_id: string
  readonly incarnation: number
  readonly versions: number
}

/** Writes down the latest versions; answers which life of their keys they are. */
function numbering(database: ApplyingDatabase, set: readonly AppliedDocument[], origin: Origin): Statement {
  return {
    sql: `INSERT INTO ${database.qualify(DOCUMENTS.name)} AS d
            (register_id, table_name, record_id, incarnation, lives, removed, epoch_no, entry_no, entries, versions, born_epoch_no, born_entry_no)
          SELECT $1, table_name, record_id, 1, 1, removed, $2, entry_no, entries, 1, $2, born
          FROM unnest($3::text[], $4::text[], $5::boolean[], $6::bigint[], $7::bigint[], $8::bigint[]) AS s(table_name, record_id, removed, entry_no, entries, born)
          ON CONFLICT (register_id, table_name, record_id) DO UPDATE
          SET incarnation = CASE WHEN ${BEGINS} THEN d.lives + 1 ELSE d.incarnation END,
              lives = d.lives + ${BEGINS}::int,
              former = CASE WHEN ${BEGINS} AND d.state IS NULL
                       THEN (SELECT json_agg(f) FROM (
                               SELECT json_build_object('incarnation', d.incarnation, 'epoch', d.born_epoch_no, 'born', d.born_entry_no, 'end', d.entry_no) AS f, 0 AS n
                               UNION ALL SELECT f, n FROM json_array_elements(coalesce(d.former, '[]')) WITH ORDINALITY AS f(f, n) WHERE n < ${MOST_LIVES} ORDER BY n) AS f)
                       ELSE d.former END,
              born_epoch_no = CASE WHEN ${BEGINS} OR d.state = 'back' THEN excluded.born_epoch_no ELSE d.born_epoch_no END,
              born_entry_no = CASE WHEN ${BEGINS} OR d.state = 'back' THEN excluded.born_entry_no ELSE d.born_entry_no END,
              state = CASE WHEN d.state = 'lost' AND excluded.removed THEN 'lost' END,
              removed = excluded.removed, epoch_no = excluded.epoch_no, entry_no = excluded.entry_no, entries = excluded.entries,
              versions = d.versions + 1
          RETURNING d.table_name, d.record_id, d.incarnation, d.versions`,
    parameters: [
      origin.registerId,
      origin.epochNo,
      set.map((document) => document.table),
      set.map((document) => document.recordId),
      set.map((document) => document.removed),
      set.map((document) => document.entries[0]?.entryNo),
      set.map((document) => document.entries.length),
      set.map(({ born }) => born),
    ],
    keepsPlan: true,
  }
}

function number(set: readonly AppliedDocument[], rows: readonly Numbered[]): void {
  const numbered = new Map(rows.map((row) => [`${row.table_name}\n${row.record_id}`, row]))
  for (const document of set) {
    const row = numbered.get(`${document.table}\n${document.recordId}`)
    document.incarnation = row?.incarnation ?? 1
    document.isNew = row?.versions === 1
  }
}
