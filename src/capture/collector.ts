import { sql } from 'kysely'
import { chainLines, documentLine } from '../digest.ts'
import type { TillsyncError } from '../errors.ts'
import { type Operation, START } from '../model.ts'
import { type CapturingDatabase, erase, insert, type Key, lookup, query, type Statement, type Work } from '../ports.ts'
import { documentsTouched, type ReadDocument, type Reading, readDocuments, type TouchedDocument } from './documents.ts'
import type { CapturePlan, RootPlan } from './plan.ts'
import { ENTRIES, MEMBERS, PARKED } from './tables.ts'

/** What one slice of sealing did. */
export interface Slice {
  readonly touches: number
  readonly documents: number
  readonly entries: number
  /** Those sealed because of `export()`, changed or not. */
  readonly exported: { readonly documents: number; readonly entries: number }
  /** The last entry of the stream. */
  readonly through: number
}

interface Member {
  readonly hash: Uint8Array
  readonly identity: Uint8Array | null
}

/**
 * Seals what up to `limit` touches lead to, in one transaction: touches taken, entries numbered and chained, members
 * brought up to date. Whatever runs at the same time, or twice, this is the only writer while it lasts.
 */
export function* sealSlice(database: CapturingDatabase, plan: CapturePlan, limit: number, now: () => number): Work<Slice> {
  const touches = yield* database.capture.takeTouches(limit)
  const touched = [...(yield* documentsTouched(plan, touches)).values()]
  const readings = yield* readAll(touched)
  const members = yield* membersOf(database, touched)
  const log = new Log(yield* lastEntry(database), new Date(now()).toISOString())
  const exported = { documents: 0, entries: 0 }
  const parked: { document: TouchedDocument; error: TillsyncError }[] = []
  for (const [n, document] of touched.entries()) {
    const reading = readings.get(document)
    if (reading instanceof Error) {
      parked.push({ document, error: reading })
      continue
    }
    const before = log.entries
    log.seal(document, members[n], reading)
    if (!document.exported || reading === undefined) continue
    exported.documents++
    exported.entries += log.entries - before
  }
  yield* log.write()
  yield* park(database, touched, parked, log.sealedAt)
  return { touches: touches.length, documents: log.documents, entries: log.entries, exported, through: log.entryNo }
}

/** Entries in the making: numbers, chain and members. */
class Log {
  entryNo: number
  documents = 0
  readonly sealedAt: string
  private digest: string
  private readonly rows: unknown[][] = []
  private readonly given: unknown[][] = []
  private readonly taken: Key[] = []

  constructor(last: { readonly entryNo: number; readonly digest: string }, sealedAt: string) {
    this.entryNo = last.entryNo
    this.digest = last.digest
    this.sealedAt = sealedAt
  }

  get entries(): number {
    return this.rows.length
  }

  seal(document: TouchedDocument, member: Member | undefined, now: ReadDocument | undefined): void {
    const table = document.root.table
    const name = documentLine({ table, recordId: document.recordId })
    const another = now !== undefined && member !== undefined && !equal(member.identity, now.identity)
    if (member !== undefined && (now === undefined || another)) this.add('remove', table, document.recordId, null, name)
    if (now === undefined) {
      if (member === undefined) return
      this.taken.push([table, document.recordId])
    } else {
      if (member !== undefined && !another && !document.exported && equal(member.hash, now.hash)) return
      for (const { table, recordId, record } of now.records) this.add('upsert', table, recordId, record, name)
      this.given.push([table, document.recordId, now.hash, now.identity])
    }
    this.documents++
  }

  private add(operation: Operation, table: string, recordId: string, record: string | null, document: string): void {
    this.entryNo++
    this.digest = chainLines(this.digest, { entryNo: this.entryNo, table, operation, recordId, record, sealedAt: this.sealedAt }, document)
    this.rows.push([this.entryNo, table, operation, recordId, record, document, this.sealedAt, Buffer.from(this.digest, 'hex')])
  }

  *write(): Work<void> {
    yield* insert(ENTRIES, this.rows)
    yield* insert(MEMBERS, this.given, MEMBERS.primaryKey)
    yield* erase(MEMBERS, MEMBERS.primaryKey, this.taken)
  }
}

function equal(a: Uint8Array | null, b: Uint8Array | null): boolean {
  return a === b || (a !== null && b !== null && Buffer.compare(a, b) === 0)
}

function* readAll(touched: readonly TouchedDocument[]): Work<ReadonlyMap<TouchedDocument, Reading>> {
  const readings = new Map<TouchedDocument, Reading>()
  for (const [root, documents] of Map.groupBy(touched, (document): RootPlan => document.root)) {
    const read = yield* readDocuments(root, documents)
    for (const [n, document] of documents.entries()) readings.set(document, read[n])
  }
  return readings
}

const statements = new WeakMap<CapturingDatabase, { readonly members: Statement; readonly last: Statement }>()

function statementsOf(database: CapturingDatabase): { readonly members: Statement; readonly last: Statement } {
  let known = statements.get(database)
  if (known === undefined) {
    const { build } = database
    known = {
      members: build
        .selectFrom(MEMBERS.name)
        .select(['hash', 'identity'])
        .where(sql.raw<boolean>(database.keyed(MEMBERS, MEMBERS.primaryKey)))
        .compile(),
      last: build.selectFrom(ENTRIES.name).select(['entry_no', 'digest']).orderBy('entry_no', 'desc').limit(1).compile(),
    }
    statements.set(database, known)
  }
  return known
}

function* membersOf(database: CapturingDatabase, touched: readonly TouchedDocument[]): Work<readonly (Member | undefined)[]> {
  const found = yield* lookup(
    statementsOf(database).members,
    touched.map(({ root, recordId }) => [root.table, recordId]),
  )
  return found.map(([tuple]) => tuple && { hash: tuple[0] as Uint8Array, identity: tuple[1] as Uint8Array | null })
}

/** The last entry of the stream; it is never pruned, so the log itself says where it stands. */
export function* lastEntry(database: CapturingDatabase): Work<{ readonly entryNo: number; readonly digest: string }> {
  const [last] = yield* query<{ entry_no: number | string; digest: Uint8Array }>(statementsOf(database).last)
  return last ? { entryNo: Number(last.entry_no), digest: Buffer.from(last.digest).toString('hex') } : START
}

function* park(
  database: CapturingDatabase,
  touched: readonly TouchedDocument[],
  parked: readonly { readonly document: TouchedDocument; readonly error: TillsyncError }[],
  at: string,
): Work<void> {
  const [any] = yield* query(database.build.selectFrom(PARKED.name).select('table_name').limit(1).compile())
  if (any !== undefined)
    yield* erase(
      PARKED,
      PARKED.primaryKey,
      touched.map(({ root, recordId }) => [root.table, recordId]),
    )
  yield* insert(
    PARKED,
    parked.map(({ document, error }) => [document.root.table, document.recordId, error.code, error.message, at]),
    PARKED.primaryKey,
  )
}
