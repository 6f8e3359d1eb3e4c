import { CREDENTIALS, REGISTERS } from './apply/tables.ts'
import type { RegisterName } from './model.ts'
import type { ApplyingDatabase, Clock } from './ports.ts'
import { hashToken, isToken } from './transport/credentials.ts'
import { query, send } from './work.ts'

interface CredentialRow {
  readonly location: string
  readonly register: string
  readonly token_hash: string
  readonly used: boolean
}

/** What central's gate asks about a credential, at each request, so that what is changed holds at once in every process. */
export class CredentialBook {
  private readonly database: ApplyingDatabase
  private readonly clock: Clock

  constructor(database: ApplyingDatabase, clock: Clock) {
    this.database = database
    this.clock = clock
  }

  /** Whose token it is; undefined where it is nobody's. */
  async identify(token: string): Promise<RegisterName | undefined> {
    const hash = hashToken(token)
    const [row] = await this.valid<CredentialRow>(
      "location, register, encode(token_hash, 'hex') AS token_hash, used_at IS NOT NULL AS used",
      'token_hash = $2',
      hash,
    )
    if (row === undefined || !isToken(token, Buffer.from(row.token_hash, 'hex'))) return undefined
    const used = `UPDATE ${this.database.qualify(CREDENTIALS.name)} SET used_at = $2 WHERE token_hash = $1 AND used_at IS NULL`
    if (!row.used) await this.database.write(() => send({ sql: used, parameters: [hash, this.at()], keepsPlan: true }))
    return { location: row.location, register: row.register }
  }

  /** Whether any token of it is valid. */
  async isKnown({ location, register }: RegisterName): Promise<boolean> {
    return (await this.valid('1 AS known', 'location = $2 AND register = $3 LIMIT 1', location, register)).length > 0
  }

  /** Bytes come as text, whatever the host's role has set for them. */
  private valid<R>(columns: string, which: string, ...parameters: readonly unknown[]): Promise<readonly R[]> {
    const { database } = this
    const sql = `SELECT ${columns} FROM ${database.qualify(CREDENTIALS.name)} JOIN ${database.qualify(REGISTERS.name)} USING (register_id)
                 WHERE (ends_at IS NULL OR ends_at > $1) AND ${which}`
    return database.read(() => query<R>({ sql, parameters: [this.at(), ...parameters], keepsPlan: true }), { loosely: true })
  }

  private at(): string {
    return new Date(this.clock.now()).toISOString()
  }
}
