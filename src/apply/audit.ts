import { TillsyncError } from '../errors.ts'
import type { RegisterName, Standing } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { isoTime } from './archived.ts'
import { walkEpoch } from './audit-chain.ts'
import { type AuditCounts, type AuditFinding, Findings, Ranges } from './audit-findings.ts'
import { type AuditedNumbers, auditNumbers, type NumbersOf } from './audit-numbers.ts'
import { openMatters } from './audit-open.ts'
import { type EpochRow, lineOf, readEpochs } from './epochs.ts'
import { appliesRemovals, type HandlersByTable } from './handler.ts'
import type { Numbering } from './numbering.ts'
import { REGISTERS } from './tables.ts'

/** An epoch of a register's history: its own entries are those after `after`, through `through`. */
export interface AuditedEpoch {
  readonly epoch: string
  readonly after: number
  readonly through: number
  /** How many entries are in the archive. */
  readonly archived: number
  /** How many were pruned: their digests are proved, what they said is not there any more. */
  readonly pruned: number
}

export interface AuditedRegister extends RegisterName {
  /** Whether nothing was found. */
  readonly clean: boolean
  /** Where central stands: the register's own word, confirmed by the archive where nothing was found. Undefined where nothing has come yet. */
  readonly standing: Standing | undefined
  /** When the last batch came; ISO 8601, UTC. */
  readonly lastBatch: string | undefined
  /** How many entries the register had behind the standing, as it said with that batch. */
  readonly pending: number
  /** In order. */
  readonly epochs: readonly AuditedEpoch[]
  /** By table and column of `numbering`. */
  readonly numbers: readonly AuditedNumbers[]
  /** Documents that somebody has settled by hand, with a reason: `quarantine.list()` and `orphans.list()` show them by state. */
  readonly settled: { readonly discarded: number; readonly withdrawn: number }
  /** At most 1,000 of each code. */
  readonly findings: readonly AuditFinding[]
  /** How many of each code there are; of `NUMBERS_MISSING` how many numbers. */
  readonly counts: AuditCounts
}

export interface Audit {
  /** Whether nothing was found at any register. */
  readonly clean: boolean
  /** By name. */
  readonly registers: readonly AuditedRegister[]
}

export interface WhatToAudit {
  readonly location: string
  readonly register: string | undefined
  readonly numbering: readonly Numbering[]
  readonly handlers: HandlersByTable
  readonly signal: AbortSignal | undefined
}

/** A register with what central last heard of it. */
export interface HeardRegister extends RegisterName {
  readonly register_id: number
  readonly epoch_no: number
  readonly epoch: string | null
  readonly entry_no: number
  readonly digest: string | null
  readonly contact_at: string | null
  readonly head_no: number | null
  readonly held: boolean
  readonly parked: string | null
}

/** Audits registers one after another, inside the caller's snapshot. @throws ERR_REGISTER, ERR_ABORTED */
export function* audit(database: ApplyingDatabase, what: WhatToAudit): Work<Audit> {
  const registers: AuditedRegister[] = []
  for (const heard of yield* registersAt(database, what)) registers.push(yield* auditRegister(database, heard, what))
  return { clean: registers.every(({ clean }) => clean), registers }
}

/** The registers of a location, or one of them, by name. @throws ERR_REGISTER where there is none */
export function* registersAt(
  database: ApplyingDatabase,
  { location, register }: { readonly location: string; readonly register: string | undefined },
): Work<readonly HeardRegister[]> {
  const rows = yield* query<HeardRegister>({
    sql: `SELECT register_id, location, register, epoch_no, epoch, entry_no, digest, ${isoTime('contact_at')} AS contact_at, head_no, held, parked
          FROM ${database.qualify(REGISTERS.name)} WHERE location = $1 AND register = coalesce($2, register) ORDER BY register COLLATE "C"`,
    parameters: [location, register ?? null],
  })
  if (rows.length > 0) return rows
  const who = register === undefined ? `No register is known at ${location}` : `Register ${register} at ${location} is not known`
  throw new TillsyncError('ERR_REGISTER', who, { hint: 'registers.list() shows who is.', context: { location, register } })
}

function* auditRegister(database: ApplyingDatabase, heard: HeardRegister, what: WhatToAudit): Work<AuditedRegister> {
  const { location, register, register_id, epoch, digest, entry_no, head_no } = heard
  throwIfAborted(what.signal)
  const findings = new Findings()
  const epochs = yield* readEpochs(database, register_id)
  const stream = yield* auditStream(database, heard, epochs, what, findings)
  const settled = yield* openMatters(database, heard, findings)
  const numbersOf: NumbersOf = {
    registerId: register_id,
    unreadable: stream.unreadable,
    epochs: new Map(epochs.map((one) => [one.epoch_no, one.epoch])),
    appliesRemovals: (table) => appliesRemovals(what.handlers, table),
  }
  const numbers: AuditedNumbers[] = []
  for (const numbering of what.numbering) {
    const audited = yield* auditNumbers(database, numbering, numbersOf)
    findings.addAll(audited.findings, audited.counts)
    numbers.push(audited.numbers)
  }
  return {
    location,
    register,
    clean: findings.listed.length === 0,
    standing: epoch === null || digest === null ? undefined : { epoch, entryNo: entry_no, digest },
    lastBatch: heard.contact_at ?? undefined,
    pending: Math.max(0, (head_no ?? 0) - entry_no),
    epochs: stream.epochs,
    numbers,
    settled,
    findings: findings.listed,
    counts: findings.counts,
  }
}

interface AuditedStream {
  readonly epochs: readonly AuditedEpoch[]
  readonly unreadable: readonly { readonly epochNo: number; readonly entryNo: number }[]
}

function* auditStream(
  database: ApplyingDatabase,
  heard: HeardRegister,
  epochs: readonly EpochRow[],
  { numbering, signal }: WhatToAudit,
  findings: Findings,
): Work<AuditedStream> {
  const read = new Set(numbering.flatMap(({ table, voidedIn }) => [table, ...voidedIn.map((other) => other.table)]))
  const audited: AuditedEpoch[] = []
  const unreadable: { epochNo: number; entryNo: number }[] = []
  // They are numbered one after another, and the register stands in the last one.
  for (let epochNo = 1; epochNo <= heard.epoch_no; epochNo++) {
    const isHeard = epochNo === heard.epoch_no
    if (!epochs.some((row) => row.epoch_no === epochNo && (!isHeard || row.epoch === heard.epoch)))
      findings.add({ code: 'DIGEST', epoch: (isHeard && heard.epoch) || '', after: 0, through: isHeard ? heard.entry_no : 0 })
  }
  for (const [n, row] of epochs.entries()) {
    const { epoch, epoch_no: epochNo, parent_no, start_no } = row
    const start = { entryNo: start_no, digest: row.start_digest }
    const end = endOf(row, heard)
    if (start_no > parent_no) findings.add({ code: 'ENTRIES_SKIPPED', epoch, from: parent_no + 1, through: start_no })
    const branches = epochs.slice(n + 1).flatMap((later, m) => {
      const [last] = lineOf(epochs.slice(0, n + 1 + m), later.parent_no)
      const isHere = later.start_no === later.parent_no && last?.epochNo === epochNo && last.through === later.parent_no
      const tell = () => findings.add({ code: 'DIGEST', epoch: later.epoch, after: later.parent_no, through: later.start_no })
      return isHere ? [{ entryNo: later.parent_no, digest: later.start_digest, tell }] : []
    })
    const missing = new Ranges((from, through) => findings.add({ code: 'ENTRIES_MISSING', epoch, from, through }))
    const unknown = new Ranges((from, through) => findings.add({ code: 'ENTRIES_UNKNOWN', epoch, from, through }))
    const { archived, pruned } = yield* walkEpoch(database, { registerId: heard.register_id, epochNo, start, end, branches }, read, {
      missing: (from, through) => missing.add(from, through),
      unknown: (from, through) => unknown.add(from, through),
      unproved: (after, through) => findings.add({ code: 'DIGEST', epoch, after, through }),
      unreadable: (entryNo) => unreadable.push({ epochNo, entryNo }),
      turn: () => throwIfAborted(signal),
    })
    missing.end()
    unknown.end()
    audited.push({ epoch, after: start_no, through: end.entryNo, archived, pruned })
  }
  return { epochs: audited, unreadable }
}

/** Where central stands in an epoch. */
function endOf({ epoch_no, entry_no, digest, start_no, start_digest }: EpochRow, heard: HeardRegister): { entryNo: number; digest: string } {
  if (epoch_no === heard.epoch_no) return { entryNo: heard.entry_no, digest: heard.digest ?? start_digest }
  return { entryNo: entry_no ?? start_no, digest: digest ?? start_digest }
}

/** @throws ERR_ABORTED */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw new TillsyncError('ERR_ABORTED', 'The proof was aborted', { cause: signal.reason })
}
