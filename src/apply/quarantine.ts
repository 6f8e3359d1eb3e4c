import type { ApplyingDatabase, QuarantinedDocument, ReleasedDocument } from '../ports.ts'
import { query, type Work } from '../work.ts'
import type { AppliedDocument, Origin } from './document-set.ts'
import type { RetryLimits } from './handling.ts'
import type { Failed } from './quarantine-division.ts'
import {
  appliedOf,
  baselineOf,
  keyOf,
  NUMBERS,
  type Priors,
  QUARANTINE_ROW,
  type QuarantineRow,
  releasedVersion,
  sameVersion,
  waitingVersion,
} from './quarantine-row.ts'
import { readWaiting } from './quarantine-versions.ts'
import { DOCUMENTS, QUARANTINE } from './tables.ts'

/** What one transaction does to the quarantine of a register. The caller holds the register's row. */
export class Quarantine {
  private readonly database: ApplyingDatabase
  private readonly registerId: number
  private readonly table: string
  private readonly now: number
  /** The time of the transaction; ISO 8601. */
  readonly at: string
  private readonly retry: RetryLimits
  /** By name and life; the latest first. */
  private readonly rows = new Map<string, QuarantineRow[]>()
  private readonly held = new Map<number, QuarantinedDocument>()
  private readonly freed = new Map<number, ReleasedDocument>()
  /** Waiting before this transaction. */
  private readonly known = new Set<number>()

  constructor(database: ApplyingDatabase, registerId: number, retry: RetryLimits, now: number) {
    this.database = database
    this.registerId = registerId
    this.table = database.qualify(QUARANTINE.name)
    this.retry = retry
    this.now = now
    this.at = new Date(now).toISOString()
  }

  /** Reads what there is of these documents. */
  *load(documents: readonly { readonly table: string; readonly recordId: string }[]): Work<void> {
    const rows = yield* query<QuarantineRow>({
      sql: `SELECT ${QUARANTINE_ROW} FROM (SELECT DISTINCT * FROM unnest($2::text[], $3::text[])) AS s(table_name, record_id) CROSS JOIN LATERAL (
              SELECT * FROM ${this.table} q WHERE q.register_id = $1 AND q.table_name = s.table_name AND q.record_id = s.record_id OFFSET 0) q ORDER BY q.state DESC, q.quarantine_id DESC`,
      parameters: [this.registerId, documents.map(({ table }) => table), documents.map(({ recordId }) => recordId)],
    })
    this.rows.clear()
    for (const row of rows) this.remember(row)
  }

  private remember(row: QuarantineRow): void {
    const key = keyOf({ table: row.table_name, recordId: row.record_id, incarnation: row.incarnation })
    this.rows.set(key, [...(this.rows.get(key) ?? []), row])
    if (row.state === 'waiting' && !this.held.has(row.quarantine_id)) this.known.add(row.quarantine_id)
  }

  /**
   * What documents go on from: where nothing of them was applied, they are new, and have the former state that the waiting version came with. A removal has the waiting
   * version before it, unless all handlers take back what was removed.
   */
  *prepare(documents: readonly AppliedDocument[], appliesRemovals: (table: string) => boolean): Work<void> {
    const concerned = documents.flatMap((document) => {
      const row = this.rowOf(document)
      return row === undefined ? [] : [{ document, row }]
    })
    for (const { document, row } of concerned) document.isNew = row.applied_no === null
    const needs = concerned.filter(({ document, row }) => {
      const wantsBefore = document.removed && row.state === 'waiting' && !appliesRemovals(document.table)
      return wantsBefore || (document.isNew && document.baseline === undefined && row.baseline_no !== null)
    })
    const found = yield* readWaiting(
      this.database,
      needs.map(({ row }) => ({ ...row, register_id: this.registerId })),
    )
    for (const [n, { document, row }] of needs.entries()) {
      const { version } = found[n] ?? {}
      if (version === undefined || version.removed) continue
      if (document.isNew) document.baseline ??= version.baseline
      if (document.removed && row.state === 'waiting' && !appliesRemovals(document.table)) document.before = version
    }
  }

  /** What was received of documents before this transaction's versions. */
  *priorsOf(documents: readonly AppliedDocument[]): Work<Priors> {
    if (documents.length === 0) return new Map()
    const rows = yield* query<{ table_name: string; record_id: string; incarnation: number; epoch_no: number; entry_no: number; entries: number }>({
      sql: `SELECT d.table_name, d.record_id, d.incarnation, d.epoch_no, d.entry_no, d.entries FROM unnest($2::text[], $3::text[]) AS s(table_name, record_id)
            JOIN ${this.database.qualify(DOCUMENTS.name)} d ON d.register_id = $1 AND d.table_name = s.table_name AND d.record_id = s.record_id`,
      parameters: [this.registerId, documents.map(({ table }) => table), documents.map(({ recordId }) => recordId)],
    })
    return new Map(
      rows.map((row) => [
        `${row.table_name}\n${row.record_id}`,
        { incarnation: row.incarnation, epochNo: row.epoch_no, entryNo: row.entry_no, entries: row.entries },
      ]),
    )
  }

  /** Documents that were applied: what waited of them waits no more. */
  *release(documents: readonly AppliedDocument[], { epochNo }: Origin): Work<void> {
    if (this.rows.size === 0) return
    const concerned = documents.flatMap((document) => (this.rows.get(keyOf(document)) ?? []).map((row) => ({ document, row })))
    if (concerned.length === 0) return
    const ids = concerned.map(({ row }) => row.quarantine_id)
    const applied = concerned.map(({ document, row }) => releasedVersion(document, row, epochNo))
    yield* query({
      sql: `UPDATE ${this.table} q SET applied_epoch_no = s.epoch_no, applied_no = s.entry_no, applied_entries = s.entries
            FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) AS s(quarantine_id, epoch_no, entry_no, entries)
            WHERE q.quarantine_id = s.quarantine_id AND q.state <> 'waiting'`,
      parameters: [ids, applied.map((one) => one.applied_epoch_no), applied.map((one) => one.applied_no), applied.map((one) => one.applied_entries)],
    })
    yield* query({ sql: `DELETE FROM ${this.table} WHERE quarantine_id = ANY ($1::bigint[]) AND state = 'waiting'`, parameters: [ids] })
    for (const [n, { document, row }] of concerned.entries()) {
      const key = keyOf(document)
      const others = (this.rows.get(key) ?? []).filter(({ quarantine_id }) => quarantine_id !== row.quarantine_id)
      this.rows.set(key, row.state === 'waiting' ? others : [...others, { ...row, ...applied[n] }])
      if (this.rows.get(key)?.length === 0) this.rows.delete(key)
      if (row.state === 'waiting') this.free(row.quarantine_id, document)
    }
  }

  private free(id: number, { table, recordId }: AppliedDocument): void {
    this.held.delete(id)
    if (this.known.has(id)) this.freed.set(id, { id, table, recordId })
  }

  /** Documents that could not be applied: the version that came is the one that waits. */
  *hold(failed: readonly Failed[], priors: Priors, origin: Origin): Work<void> {
    if (failed.length === 0) return
    const all = failed.map(({ document, verdict }) => {
      const row = this.rowOf(document)
      const waiting = row?.state === 'waiting' ? row : undefined
      const version = waitingVersion(document, waiting, origin)
      const isSame = waiting !== undefined && sameVersion(waiting, version)
      const attempts = isSame ? waiting.attempts + 1 : 1
      return { document, verdict, waiting, ...version, ...baselineOf(document, row, origin), ...appliedOf(document, row, priors), attempts }
    })
    const pause = (attempts: number) => Math.min(this.retry.maxMs, this.retry.minMs * 2 ** Math.min(30, attempts - 1))
    const columns = [
      ['record_id', 'text', all.map(({ document }) => document.recordId)],
      ['table_name', 'text', all.map(({ document }) => document.table)],
      ['incarnation', 'bigint', all.map(({ document }) => document.incarnation)],
      ...NUMBERS.map((name) => [name, 'bigint', all.map((one) => one[name])] as const),
      ['code', 'text', all.map(({ verdict }) => verdict.code)],
      ['message', 'text', all.map(({ verdict }) => verdict.message)],
      ['hint', 'text', all.map(({ verdict }) => verdict.hint ?? null)],
      ['cause', 'text', all.map(({ verdict }) => verdict.cause)],
      ['attempts', 'bigint', all.map(({ attempts }) => attempts)],
      ['tried_at', 'timestamptz', all.map(() => this.at)],
      ['retry_at', 'timestamptz', all.map(({ attempts }) => new Date(this.now + pause(attempts)).toISOString())],
    ] as const
    const names = columns.map(([name]) => name)
    const source = `unnest(${columns.map(([, type], n) => `$${n + 3}::${type}[]`).join(', ')}, $2::bigint[]) AS s(${names.join(', ')}, known_id)`
    const parameters = [this.registerId, all.map(({ waiting }) => waiting?.quarantine_id ?? null), ...columns.map(([, , values]) => values)]
    const updates = all.some(({ waiting }) => waiting !== undefined)
    const inserts = all.some(({ waiting }) => waiting === undefined)
    const updated = !updates
      ? []
      : yield* query<QuarantineRow>({
          sql: `UPDATE ${this.table} q SET ${names.map((name) => `${name} = s.${name}`).join(', ')} FROM ${source}
            WHERE q.quarantine_id = s.known_id AND q.register_id = $1 RETURNING ${QUARANTINE_ROW}`,
          parameters,
        })
    const added = !inserts
      ? []
      : yield* query<QuarantineRow>({
          sql: `INSERT INTO ${this.table} AS q (register_id, state, quarantined_at, ${names.join(', ')})
            SELECT $1, 'waiting', s.tried_at, ${names.map((name) => `s.${name}`).join(', ')} FROM ${source} WHERE s.known_id IS NULL RETURNING ${QUARANTINE_ROW}`,
          parameters,
        })
    const rows = new Map(
      [...updated, ...added].map((row) => [keyOf({ table: row.table_name, recordId: row.record_id, incarnation: row.incarnation }), row]),
    )
    for (const { document, verdict } of all) {
      const key = keyOf(document)
      const row = rows.get(key)
      if (row === undefined) continue
      this.rows.set(key, [row, ...(this.rows.get(key) ?? []).filter(({ quarantine_id }) => quarantine_id !== row.quarantine_id)])
      const { table, recordId } = document
      this.held.set(row.quarantine_id, { id: row.quarantine_id, table, recordId, code: verdict.code, message: verdict.message })
    }
  }

  /** What became of documents in this transaction, to be told when it is committed. */
  get outcome(): { readonly quarantined: readonly QuarantinedDocument[]; readonly released: readonly ReleasedDocument[] } {
    return { quarantined: [...this.held.values()], released: [...this.freed.values()] }
  }

  private rowOf(document: AppliedDocument): QuarantineRow | undefined {
    return this.rows.get(keyOf(document))?.[0]
  }
}
