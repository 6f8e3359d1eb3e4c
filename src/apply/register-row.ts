import { unknownRegister, unknownToken } from '../credential-errors.ts'
import { TillsyncError } from '../errors.ts'
import { MOST_AGAIN, type Point, type RegisterName, START, type Standing, type Subscription } from '../model.ts'
import type { ApplyingDatabase, Proof } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { askedColumn, askedQuestion } from './compare-questions.ts'
import { wantedOf } from './fork.ts'
import { offered, offeredColumn } from './orphan-returns.ts'
import { CREDENTIALS, FRAMES, REGISTERS } from './tables.ts'

/** How central stands to a register, as it is read for each message. */
export interface RegisterRow {
  readonly register_id: number
  readonly epoch_no: number
  readonly epoch: string | null
  readonly entry_no: number
  readonly digest: string | null
  readonly held: boolean
  readonly reset: boolean
  readonly unsettled: boolean
  /** How far a document of this epoch has come in frames, and where central stood when it began; NULL where there is none. */
  readonly staged_no: number | null
  readonly staged_digest: string | null
  readonly base_no: number | null
  readonly parked: string | null
  readonly version: string | null
  /** The orphan that is offered to it; NULL where none is. */
  readonly offered: number | null
  /** What it is asked, to be compared with the archive; NULL where that is nothing. */
  readonly asked: string | null
  /** Whether the proof holds; NULL where it does not. */
  readonly proven: boolean | null
}

/** Who speaks. */
export interface Sender {
  readonly from: RegisterName
  /** By what he was let in, where that is to be looked at. */
  readonly proof?: Proof | undefined
  /** The time of central's clock; ISO 8601. */
  readonly at: string
}

/** @throws ERR_CREDENTIAL where the proof does not hold, ERR_REGISTER where it is not known any more */
export function* readRegister(database: ApplyingDatabase, { from: { location, register }, proof, at }: Sender, lock: string): Work<RegisterRow> {
  const token = proof?.tokenHash
  const [row] = yield* query<RegisterRow>({
    sql: `SELECT r.register_id, r.epoch_no, epoch, r.entry_no, r.digest, held, reset, unsettled, parked, version, f.entry_no AS staged_no, encode(f.digest, 'hex') AS staged_digest, base_no,
                 ${askedColumn(database)} AS asked, ${offeredColumn(database)} AS offered, ${provenColumn(database, proof)} AS proven
          FROM ${database.qualify(REGISTERS.name)} r LEFT JOIN LATERAL (
            SELECT entry_no, digest, base_no FROM ${database.qualify(FRAMES.name)} f
            WHERE f.register_id = r.register_id AND f.epoch_no = r.epoch_no ORDER BY entry_no DESC LIMIT 1) f ON true
          WHERE location = $1 AND register = $2 ${lock}`,
    parameters: [location, register, ...(proof ? [at] : []), ...(token ? [token] : [])],
    keepsPlan: true,
  })
  if (proof !== undefined && row?.proven !== true) throw token ? unknownToken() : unknownRegister()
  if (row !== undefined) return row
  throw new TillsyncError('ERR_REGISTER', 'The register is not known any more', { context: { location, register } })
}

/** Of a register's row `r`, as a column: whether the proof holds. A token that was never used (a backup of central may have brought it back) must be looked up first, which notes that it is. */
function provenColumn(database: ApplyingDatabase, proof: Proof | undefined): string {
  if (proof === undefined) return 'NULL::boolean'
  const which = proof.tokenHash ? 'token_hash = $4 AND used_at IS NOT NULL' : 'true'
  return `EXISTS (SELECT FROM ${database.qualify(CREDENTIALS.name)} c WHERE c.register_id = r.register_id AND (ends_at IS NULL OR ends_at > $3) AND ${which})`
}

/**
 * What is said to it of where central stands.
 *
 * @param isKnown whether the one that asks speaks of an epoch of this register
 */
export function* subscriptionOf(database: ApplyingDatabase, register: RegisterRow, isKnown: boolean): Work<Subscription> {
  const standing = toStanding(register)
  // A database that was set up anew begins anew; the former one does not.
  const compare = askedQuestion(register.asked)
  if (standing === undefined || (register.reset && !isKnown)) return { ...(compare && { compare }) }
  const again = register.unsettled ? yield* wantedOf(database, register.register_id, MOST_AGAIN) : []
  const staged = stagedIn(register)
  const back = register.offered === null ? undefined : yield* offered(database, register.offered)
  return { standing, ...(staged && { staged }), ...(again.length > 0 && { again }), ...(compare && { compare }), ...(back && { back }) }
}

function toStanding({ epoch, entry_no, digest }: RegisterRow): Standing | undefined {
  return epoch === null || digest === null ? undefined : { epoch, entryNo: entry_no, digest }
}

/** Frames mean nothing where central stands elsewhere by now. */
function stagedIn({ entry_no, staged_no, staged_digest, base_no }: RegisterRow): Point | undefined {
  return staged_no === null || staged_digest === null || base_no !== entry_no ? undefined : { entryNo: staged_no, digest: staged_digest }
}

export function pointOf({ entry_no, digest }: RegisterRow): Point {
  return digest === null ? START : { entryNo: entry_no, digest }
}

/** One writer per register, over any number of processes. @throws ERR_BUSY (retryable) */
export function* lockRegister(database: ApplyingDatabase, registerId: number): Work<void> {
  yield* query({ sql: `SELECT FROM ${database.qualify(REGISTERS.name)} WHERE register_id = $1 FOR UPDATE NOWAIT`, parameters: [registerId] })
}
