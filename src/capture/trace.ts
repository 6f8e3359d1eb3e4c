import { setImmediate } from 'node:timers/promises'
import { TillsyncError } from '../errors.ts'
import type { AnyTables, Operation, Value, Which } from '../model.ts'
import type { CapturingDatabase } from '../ports.ts'
import { decodeRecord, decodeRecordId, encodeValue } from '../record.ts'
import { query, type Work } from '../work.ts'
import { isEqual, lastEntry, membersOf } from './collector.ts'
import { readDocuments, recordIdText, type TouchedDocument } from './documents.ts'
import { checkWhich, selectWhich } from './export.ts'
import { type CapturePlan, requireRoot } from './plan.ts'
import type { RootPlan } from './table-plan.ts'
import { ENTRIES, PARKED } from './tables.ts'

/** A version of a document that was sealed, as far as its entries are kept. */
export interface TracedVersion {
  /** Of its root record; those of its parts follow it. */
  readonly entryNo: number
  readonly operation: Operation
  /** ISO 8601, UTC. */
  readonly sealedAt: string
  /** Whether central has said that it has it. */
  readonly acknowledged: boolean
}

/**
 * How far a document has come, as its register sees it.
 *
 * - `untouched`: it stood there before its table was published, and has not changed: it is withheld.
 * - `outside filter`: nothing of it is published, nor was.
 * - `unsealed`: a change waits for its sealing, or is parked.
 * - `waiting`: its latest version is sealed, and central has not acknowledged it.
 * - `sent`: central has said that it has the latest version; what became of it there says central's `trace()`.
 */
export type TracedStage = 'untouched' | 'outside filter' | 'unsealed' | 'waiting' | 'sent'

/** What this register knows of a document. */
export interface TracedDocument {
  readonly table: string
  readonly recordId: readonly Value[]
  readonly stage: TracedStage
  /** Of its latest version; undefined where no entry of it is kept. */
  readonly entryNo: number | undefined
  /** When that was sealed, or it was parked; ISO 8601, UTC. */
  readonly at: string | undefined
  /** Why it is parked; undefined where it is not. */
  readonly why: string | undefined
  /** In the host's table now: inside the filter, outside it or gone, or not to be read (see `parked`). */
  readonly now: 'published' | 'absent' | 'unreadable'
  /** What central has been given by the last sealing; 'withheld': it stood there before it was published, and has not changed. */
  readonly sealed: 'given' | 'withheld' | 'nothing'
  /** Whether a change waits for its sealing. */
  readonly unsealed: boolean
  /** Why it waits, where it is parked. */
  readonly parked: { readonly code: string; readonly message: string; readonly parkedAt: string } | undefined
  /** Oldest first. */
  readonly versions: readonly TracedVersion[]
}

/** Documents that are traced at once. */
const MOST = 100
/** Entries that are looked through in one read. */
const PAGE = 2_000

type Known = Pick<TracedDocument, 'now' | 'sealed' | 'unsealed' | 'parked'>

/**
 * Documents by values of their columns, also of those that are gone from the table, as long as their entries are kept; or by a
 * filter over the table. At most 100. Looks through all entries that are kept, a few at a time.
 *
 * @throws ERR_UNKNOWN_TABLE, ERR_UNKNOWN_COLUMN, ERR_OPTION, ERR_FILTER, ERR_ABORTED
 */
export async function traceDocuments(
  database: CapturingDatabase,
  plan: CapturePlan,
  table: string,
  which: Which<AnyTables, string>,
  acknowledged: number,
  signal: AbortSignal | undefined,
): Promise<readonly TracedDocument[]> {
  const root = requireRoot(plan, table)
  checkWhich(root, which)
  if (Array.isArray(which) && which.length > MOST) {
    throw new TillsyncError('ERR_OPTION', `\`which\` names ${which.length} documents: at most ${MOST} are traced at once`, {
      hint: 'Ask for them in several calls.',
      context: { table },
    })
  }
  const versions = new Map<string, TracedVersion[]>()
  for (const recordId of await database.read(() => standing(database, root, which), { signal })) versions.set(recordId, [])
  const last = (await database.read(() => lastEntry(database), { signal })).entryNo
  const first = await database.read(() => firstEntry(database), { signal })
  for (let after = first - 1; after < last; after += PAGE) {
    if (signal?.aborted) throw new TillsyncError('ERR_ABORTED', 'Tracing was aborted', { cause: signal.reason })
    for (const row of await database.read(() => headers(database, table, after), { signal })) {
      if (!versions.has(row.record_id) && matches(row.record, which)) versions.set(row.record_id, [])
      versions
        .get(row.record_id)
        ?.push({ entryNo: row.entry_no, operation: row.operation, sealedAt: row.sealed_at, acknowledged: row.entry_no <= acknowledged })
    }
    await setImmediate()
  }
  const recordIds = [...versions.keys()].slice(0, MOST)
  const known = await database.read(() => knownOf(database, root, recordIds), { signal })
  return recordIds.map((recordId, n) => {
    const [own, sealed] = [known[n] as Known, versions.get(recordId) ?? []]
    return { table, recordId: decodeRecordId(recordId), ...stageOf(own, sealed), ...own, versions: sealed }
  })
}

function stageOf(known: Known, versions: readonly TracedVersion[]): Pick<TracedDocument, 'stage' | 'entryNo' | 'at' | 'why'> {
  const { parked, unsealed, sealed } = known
  const last = versions.at(-1)
  const entryNo = last?.entryNo
  if (parked !== undefined) return { stage: 'unsealed', entryNo, at: parked.parkedAt, why: `${parked.code}: ${parked.message}` }
  const told = { entryNo, at: last?.sealedAt, why: undefined }
  if (unsealed) return { stage: 'unsealed', ...told }
  if (sealed === 'withheld') return { stage: 'untouched', ...told }
  // What was given and is pruned was acknowledged.
  if (last === undefined) return { stage: sealed === 'given' ? 'sent' : 'outside filter', ...told }
  return { stage: last.acknowledged ? 'sent' : 'waiting', ...told }
}

/** Record ids of what stands in the table; and of the very key that is asked for, whether it stands there or not. */
function* standing(database: CapturingDatabase, root: RootPlan, which: Which<AnyTables, string>): Work<readonly string[]> {
  const keys = yield* selectWhich(database, root, which, undefined, MOST)
  const ids = new Set(keys.map((key) => recordIdText(root, key)))
  for (const one of valuesOf(which)) {
    const id = root.key.every((name) => name in one) ? `[${root.key.map((name) => encodeValue(one[name] as Value)).join(',')}]` : undefined
    if (id === undefined || ids.has(id)) continue
    const document = toDocument(database, root, id)
    const [member] = yield* membersOf(database, [document])
    if (member !== undefined) ids.add(id)
  }
  return [...ids]
}

function valuesOf(which: Which<AnyTables, string>): readonly Readonly<Record<string, unknown>>[] {
  if (typeof which === 'function') return []
  return Array.isArray(which) ? which : [which as Readonly<Record<string, unknown>>]
}

function toDocument(database: CapturingDatabase, root: RootPlan, recordId: string): TouchedDocument {
  const key = database.keyOf(root.keyColumns, recordId)
  return { root, recordId, key: key.length === root.key.length ? key : [], exported: false, again: false, existing: false, changed: false }
}

function* knownOf(database: CapturingDatabase, root: RootPlan, recordIds: readonly string[]): Work<readonly Known[]> {
  const documents = recordIds.map((recordId) => toDocument(database, root, recordId))
  const members = yield* membersOf(database, documents)
  const readings = yield* readDocuments(root, documents)
  const parked = yield* query<{ record_id: string; code: string; message: string; parked_at: string }>(
    database.build.selectFrom(PARKED.name).select(['record_id', 'code', 'message', 'parked_at']).where('table_name', '=', root.table).compile(),
  )
  return recordIds.map((recordId, n) => {
    const [member, reading] = [members[n], readings[n]]
    const [found] = parked.filter((row) => row.record_id === recordId)
    return {
      now: reading instanceof Error ? 'unreadable' : reading === undefined ? 'absent' : 'published',
      sealed: member === undefined ? 'nothing' : member.withheld ? 'withheld' : 'given',
      unsealed: reading instanceof Error || (reading === undefined ? member !== undefined : member === undefined || !isEqual(reading, member)),
      parked: found && { code: found.code, message: found.message, parkedAt: found.parked_at },
    }
  })
}

function* firstEntry(database: CapturingDatabase): Work<number> {
  const select = database.build.selectFrom(ENTRIES.name).select('entry_no').orderBy('entry_no').limit(1)
  return Number((yield* query<{ entry_no: number }>(select.compile()))[0]?.entry_no ?? 1)
}

interface HeaderRow {
  readonly entry_no: number
  readonly operation: Operation
  readonly record_id: string
  readonly record: string | null
  readonly sealed_at: string
}

function headers(database: CapturingDatabase, table: string, after: number): Work<readonly HeaderRow[]> {
  return query<HeaderRow>(
    database.build
      .selectFrom(ENTRIES.name)
      .select(['entry_no', 'operation', 'record_id', 'record', 'sealed_at'])
      .where('entry_no', '>', after)
      .where('entry_no', '<=', after + PAGE)
      .where('table_name', '=', table)
      .orderBy('entry_no')
      .compile(),
  )
}

function matches(record: string | null, which: Which<AnyTables, string>): boolean {
  const wanted = valuesOf(which)
  if (record === null || wanted.length === 0) return false
  const values = decodeRecord(record)
  return wanted.some((one) => Object.entries(one).every(([name, value]) => isSame(values[name], value)))
}

/** Numbers that are kept as text, as PostgreSQL's numeric are, are equal to the number that one asks for. */
function isSame(value: unknown, wanted: unknown): boolean {
  if (value instanceof Uint8Array && wanted instanceof Uint8Array) return Buffer.compare(value, wanted) === 0
  return value === wanted || (value !== null && wanted !== null && String(value) === String(wanted))
}
