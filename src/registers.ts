import { REGISTERS } from './apply/tables.ts'
import { TillsyncError } from './errors.ts'
import type { RegisterName } from './model.ts'
import { checkName } from './options.ts'
import { type ApplyingDatabase, type Clock, query } from './ports.ts'
import { createToken, hashToken, isToken } from './transport/credentials.ts'

/** A register as central knows it. */
export interface ListedRegister extends RegisterName {
  /** ISO 8601, UTC. */
  readonly addedAt: string
  /** When its last batch was applied; undefined before the first. ISO 8601, UTC. */
  readonly lastBatch: string | undefined
  /** The epoch of its stream; undefined before the first batch. */
  readonly epoch: string | undefined
  /** The last entry that was applied. */
  readonly entryNo: number
}

/** Central's book of registers and their credentials. */
export interface Registers {
  /**
   * Makes a register known. Its token is shown here once and stored nowhere; only its hash is.
   *
   * @throws ERR_REGISTER where it is known already, ERR_OPTION
   */
  add(register: RegisterName): Promise<{ readonly token: string }>
  /** By location and register. */
  list(): Promise<readonly ListedRegister[]>
}

interface Row {
  readonly location: string
  readonly register: string
  readonly added_at: string
  readonly contact_at: string | null
  readonly epoch: string | null
  readonly entry_no: number
  readonly token_hash: Uint8Array
}

export class RegisterBook implements Registers {
  private readonly database: ApplyingDatabase
  private readonly clock: Clock
  private readonly ready: () => Promise<void>

  constructor(database: ApplyingDatabase, clock: Clock, ready: () => Promise<void>) {
    this.database = database
    this.clock = clock
    this.ready = ready
  }

  async add(register: RegisterName): Promise<{ readonly token: string }> {
    checkName('location', register?.location)
    checkName('register', register?.register)
    await this.ready()
    const token = createToken()
    const table = this.database.qualify(REGISTERS.name)
    const at = new Date(this.clock.now()).toISOString()
    const added = await this.database.write(() =>
      query({
        sql: `INSERT INTO ${table} (location, register, token_hash, added_at, epoch_no, entry_no, held, reset, unsettled) VALUES ($1, $2, $3, $4, 0, 0, false, false, false)
              ON CONFLICT (location, register) DO NOTHING RETURNING register_id`,
        parameters: [register.location, register.register, hashToken(token), at],
      }),
    )
    if (added.length > 0) return { token }
    throw new TillsyncError('ERR_REGISTER', `Register ${register.register} at ${register.location} is known already`, {
      hint: 'Its token was shown when it was added.',
      context: { location: register.location, register: register.register },
    })
  }

  async list(): Promise<readonly ListedRegister[]> {
    await this.ready()
    const table = this.database.qualify(REGISTERS.name)
    const rows = await this.database.read(() =>
      query<Row>({
        sql: `SELECT location, register, to_char(added_at, $1) AS added_at, to_char(contact_at, $1) AS contact_at, epoch, entry_no FROM ${table} ORDER BY location, register`,
        parameters: ['YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'],
      }),
    )
    return rows.map((row) => ({
      location: row.location,
      register: row.register,
      addedAt: row.added_at,
      lastBatch: row.contact_at ?? undefined,
      epoch: row.epoch ?? undefined,
      entryNo: row.entry_no,
    }))
  }

  /** Whose token it is; undefined where it is nobody's. */
  async identify(token: string): Promise<RegisterName | undefined> {
    const table = this.database.qualify(REGISTERS.name)
    const [row] = await this.database.read(() =>
      query<Row>({ sql: `SELECT location, register, token_hash FROM ${table} WHERE token_hash = $1`, parameters: [hashToken(token)] }),
    )
    return row !== undefined && isToken(token, row.token_hash) ? { location: row.location, register: row.register } : undefined
  }
}
