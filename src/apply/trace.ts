import type { Operation, RegisterName, Value } from '../model.ts'
import { decodeRecordId } from '../record.ts'
import type { Facts, TracedOrphan, TracedQuarantine } from './trace-facts.ts'
import type { TracedClosing, TracedPosting } from './trace-postings.ts'
import type { SearchedRegister } from './trace-search.ts'
import { type Handled, heldAt, isAt, Lives, stageOf } from './trace-stages.ts'
import type { StagedDocument, VersionRow } from './trace-versions.ts'

/**
 * How far a document has come, as central sees it.
 *
 * - `unsealed`: nothing of it has come, and its register says that it can't read it.
 * - `waiting`: it comes in frames, and is not whole yet.
 * - `archived`: it has come, and nothing of it is applied; `why` says why.
 * - `quarantined`: it has come and could not be applied, or was discarded.
 * - `applied`: what the handlers have posted and mirrored.
 */
export type ArchivedStage = 'unsealed' | 'waiting' | 'archived' | 'quarantined' | 'applied'

/** A version of a document that is in the archive. */
export interface ArchivedVersion {
  /** The incarnation of the register's history that it was sealed in, see `registers.list()`. */
  readonly epoch: string
  /** Of its root record; those of its parts follow it. */
  readonly entryNo: number
  readonly operation: Operation
  /** By the register's clock; ISO 8601, UTC. */
  readonly sealedAt: string
  /** By central's database; ISO 8601, UTC. */
  readonly receivedAt: string
  /** Which life of the key it is of; undefined where nothing tells any more. */
  readonly incarnation: number | undefined
  /** 'applied': what stands now. */
  readonly stage: 'archived' | 'quarantined' | 'applied'
  /** Undefined where it is applied. */
  readonly why: string | undefined
}

/** What central knows of a document of a register. */
export interface ArchivedDocument extends RegisterName {
  readonly table: string
  readonly recordId: readonly Value[]
  /** Of its latest version in the present life of its key; where that is in quarantine, an older one may be applied, see `versions`. */
  readonly stage: ArchivedStage
  /** Of that version; of one that is waiting the last that is there. Undefined where nothing has come. */
  readonly entryNo: number | undefined
  /** When it came, or was tried last; ISO 8601, UTC. */
  readonly at: string | undefined
  /** What is to be known about it; undefined where it is applied, and that is all. */
  readonly why: string | undefined
  /** What was posted for it to all ledgers, oldest first; the latest 100. */
  readonly postings: readonly TracedPosting[]
  /** Closings that it is, or belongs to. */
  readonly closings: readonly TracedClosing[]
  /** Which life of its key it is; undefined where nothing has come. */
  readonly incarnation: number | undefined
  /** Its register has removed it. */
  readonly removed: boolean
  /** Its register can't read it as it stands there now, as it last said. */
  readonly parked: boolean
  /** Its register is asked to send it once more. */
  readonly wanted: boolean
  /** What could not be applied, or was discarded; oldest first. */
  readonly quarantine: readonly TracedQuarantine[]
  /** Lives of it that its register has lost by a restore. */
  readonly orphans: readonly TracedOrphan[]
  /** Oldest first; the latest 100. */
  readonly versions: readonly ArchivedVersion[]
  /** How many versions were pruned, at least. */
  readonly pruned: number
}

/** A document with all that is known of it. */
export interface Traced {
  readonly register: SearchedRegister
  readonly table: string
  readonly recordId: string
  readonly facts: Facts
  /** Oldest first. */
  readonly versions: readonly VersionRow[]
  /** Whether versions were left out. */
  readonly cut: boolean
  readonly staged: StagedDocument | undefined
}

/** What to say of a document; undefined where central has nothing of it. */
export function toArchivedDocument(traced: Traced, handled: Handled): ArchivedDocument | undefined {
  const { register, table, facts, staged } = traced
  const parked = register.parked.includes(traced.recordId)
  if (facts.known === undefined && traced.versions.length === 0 && staged === undefined && !parked) return undefined
  const lives = new Lives(traced.facts, traced.versions)
  const versions = traced.versions.map((version) => toVersion(version, facts, lives, handled))
  const { postings, closings, known } = facts
  return {
    location: register.location,
    register: register.register,
    table,
    recordId: decodeRecordId(traced.recordId),
    ...summary(traced, versions, lives, handled),
    postings,
    closings,
    incarnation: known?.incarnation,
    removed: known?.removed === true,
    parked,
    wanted: known?.state === 'wanted',
    quarantine: facts.quarantine.map(({ at: _, removal: __, applied: ___, ...row }) => row),
    orphans: facts.orphans.map(({ at: _, ...row }) => row),
    versions,
    pruned: prunedOf(traced),
  }
}

/** The stage of the present life, and what a person should know of it first. */
function summary(
  { facts, register, recordId, staged }: Omit<Traced, 'versions'>,
  versions: readonly ArchivedVersion[],
  lives: Lives,
  handled: Handled,
): Pick<ArchivedDocument, 'stage' | 'entryNo' | 'at' | 'why'> {
  const { known, epochs, orphans } = facts
  const coming = staged && `It comes in frames: ${staged.bytes} bytes of it are there`
  const parked = register.parked.includes(recordId) ? "Its register can't read it as it stands there now: its status().parked says why" : undefined
  if (known === undefined && versions.length === 0) {
    if (staged !== undefined) return { stage: 'waiting', entryNo: staged.entryNo, at: staged.receivedAt, why: coming }
    return { stage: 'unsealed', entryNo: undefined, at: undefined, why: parked }
  }
  const last = known && lives.lastOf(known.incarnation)
  const place = known?.removed && handled.removals === 'apply' ? known : last
  const version = place && versions.findLast(({ epoch, entryNo }) => entryNo === place.entryNo && epoch === epochs.get(place.epochNo))
  const shown = version ?? versions.at(-1)
  const lost = orphans.findLast(({ incarnation, state }) => incarnation === known?.incarnation && state === 'orphaned')
  const held = place && heldAt(place, facts)
  const why =
    (place !== undefined && version === undefined ? 'Somebody has changed the archive by hand: its latest version is not there' : shown?.why) ??
    (lost && `Its register has lost it by a restore; it stays posted: orphan ${lost.id}`) ??
    coming ??
    parked ??
    (known?.state === 'wanted' ? 'Its register is asked to send it once more' : undefined) ??
    (known?.removed ? 'Its register has removed it; it stays' : undefined)
  return { stage: shown?.stage ?? 'archived', entryNo: shown?.entryNo ?? place?.entryNo, at: held?.triedAt ?? shown?.receivedAt, why }
}

function toVersion(version: VersionRow, facts: Facts, lives: Lives, handled: Handled): ArchivedVersion {
  const { epochNo, entryNo, operation, sealedAt, receivedAt } = version
  const incarnation = lives.incarnationOf(version)
  const said = stageOf(version, incarnation, facts, lives, handled)
  return { epoch: facts.epochs.get(epochNo) ?? '', entryNo, operation, sealedAt, receivedAt, incarnation, ...said }
}

/** Versions that came in one batch were counted once; that the first is missing shows what was counted no more. */
function prunedOf({ facts: { known }, versions, cut }: Traced): number {
  if (known === undefined || cut) return 0
  const isBornThere = versions.some((version) => isAt(version, known.born))
  return Math.max(isBornThere ? 0 : 1, known.versions - versions.length)
}
