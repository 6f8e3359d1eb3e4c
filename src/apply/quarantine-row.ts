import type { AppliedDocument, Origin } from './document-set.ts'
import type { Version } from './quarantine-versions.ts'

/** A row of sync_quarantine. */
export interface QuarantineRow {
  readonly quarantine_id: number
  readonly table_name: string
  readonly record_id: string
  readonly incarnation: number
  readonly epoch_no: number
  readonly entry_no: number
  readonly entries: number
  readonly removal_epoch_no: number | null
  readonly removal_no: number | null
  readonly baseline_epoch_no: number | null
  readonly baseline_no: number | null
  readonly baseline_entries: number | null
  readonly applied_epoch_no: number | null
  readonly applied_no: number | null
  readonly applied_entries: number | null
  readonly state: 'waiting' | 'discarded'
  readonly attempts: number
}

/** Where its versions stand in the archive. */
export const NUMBERS = [
  'epoch_no',
  'entry_no',
  'entries',
  'removal_epoch_no',
  'removal_no',
  'baseline_epoch_no',
  'baseline_no',
  'baseline_entries',
  'applied_epoch_no',
  'applied_no',
  'applied_entries',
] as const

/** Its columns, of a table that is named `q`. */
export const QUARANTINE_ROW = ['quarantine_id', 'table_name', 'record_id', 'incarnation', ...NUMBERS, 'state', 'attempts']
  .map((name) => `q.${name}`)
  .join(', ')

/** The version of a document that was received last before. */
interface Prior extends Version {
  readonly incarnation: number
}

export type Priors = ReadonlyMap<string, Prior>

type WaitingVersion = Pick<QuarantineRow, 'epoch_no' | 'entry_no' | 'entries' | 'removal_epoch_no' | 'removal_no'>

/** A removal waits with the version before it, another version takes its place. */
export function waitingVersion(document: AppliedDocument, waiting: QuarantineRow | undefined, { epochNo }: Origin): WaitingVersion {
  const own = { epoch_no: epochNo, entry_no: document.entries[0]?.entryNo as number, entries: document.entries.length }
  const { removal } = document
  if (removal !== undefined) return { ...own, removal_epoch_no: removal.epochNo, removal_no: removal.entryNo }
  if (document.before === undefined || waiting === undefined) return { ...own, removal_epoch_no: null, removal_no: null }
  const { epoch_no, entry_no, entries } = waiting
  return { epoch_no, entry_no, entries, removal_epoch_no: epochNo, removal_no: own.entry_no }
}

export function sameVersion(a: WaitingVersion, b: WaitingVersion): boolean {
  return a.epoch_no === b.epoch_no && a.entry_no === b.entry_no && a.removal_epoch_no === b.removal_epoch_no && a.removal_no === b.removal_no
}

export function baselineOf(document: AppliedDocument, row: QuarantineRow | undefined, { epochNo }: Origin) {
  const { baseline } = document
  const no = baseline?.entries[0]?.entryNo ?? null
  const isKnown = row !== undefined && row.baseline_no === no
  return {
    baseline_epoch_no: baseline === undefined ? null : isKnown ? row.baseline_epoch_no : (baseline.epochNo ?? epochNo),
    baseline_no: no,
    baseline_entries: baseline?.entries.length ?? null,
  }
}

export function appliedOf(document: AppliedDocument, row: QuarantineRow | undefined, priors: Priors) {
  if (row !== undefined) return { applied_epoch_no: row.applied_epoch_no, applied_no: row.applied_no, applied_entries: row.applied_entries }
  const prior = priors.get(`${document.table}\n${document.recordId}`)
  if (prior?.incarnation !== document.incarnation) return { applied_epoch_no: null, applied_no: null, applied_entries: null }
  return { applied_epoch_no: prior.epochNo, applied_no: prior.entryNo, applied_entries: prior.entries }
}

export function keyOf({ table, recordId, incarnation }: { readonly table: string; readonly recordId: string; readonly incarnation: number }): string {
  return `${table}\n${recordId}\n${incarnation}`
}

/** Which version is applied now. A removal takes nothing away by itself: what was applied before it stands. */
export function releasedVersion(document: AppliedDocument, row: QuarantineRow, epochNo: number) {
  const { entries, removed, before } = document
  if (!removed) return { applied_epoch_no: epochNo, applied_no: entries[0]?.entryNo as number, applied_entries: entries.length }
  const { applied_epoch_no, applied_no, applied_entries } = row
  if (before === undefined || row.state !== 'waiting') return { applied_epoch_no, applied_no, applied_entries }
  return { applied_epoch_no: row.epoch_no, applied_no: row.entry_no, applied_entries: row.entries }
}
