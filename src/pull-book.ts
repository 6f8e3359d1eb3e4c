import { randomBytes } from 'node:crypto'
import { REGISTERS } from './apply/tables.ts'
import { TillsyncError } from './errors.ts'
import type { RegisterName } from './model.ts'
import { known } from './options.ts'
import type { ApplyingDatabase } from './ports.ts'
import { readUrl } from './transport/http-client.ts'
import { PULLS } from './transport/tables.ts'
import { query, type Work } from './work.ts'

/** Where a register is pulled. */
export interface PullTarget {
  /** Where its `fetch` is mounted, e.g. `https://till-3.ba01.example.com/sync`. */
  readonly url: string | URL
}

/**
 * Which registers central pulls, and which of its processes does: each register is held by one, for a while that every exchange prolongs, so that
 * several share the work and another takes over where one is gone.
 */
export class PullBook {
  readonly table: string
  private readonly database: ApplyingDatabase
  private readonly registers: string
  private readonly holder = randomBytes(12).toString('base64url')

  constructor(database: ApplyingDatabase) {
    this.database = database
    this.table = database.qualify(PULLS.name)
    this.registers = database.qualify(REGISTERS.name)
  }

  /** All pull registers whose tokens are not revoked. */
  list(): Promise<readonly RegisterName[]> {
    return this.database.read(() =>
      query<{ location: string; register: string }>({
        sql: `SELECT location, register FROM ${this.table} JOIN ${this.registers} USING (register_id) WHERE revoked_at IS NULL ORDER BY location, register`,
        parameters: [],
      }),
    )
  }

  /** Whether central starts the exchanges of a register. */
  async isPulled({ location, register }: RegisterName): Promise<boolean> {
    const rows = await this.database.read(() =>
      query({
        sql: `SELECT 1 AS one FROM ${this.table} JOIN ${this.registers} USING (register_id) WHERE location = $1 AND register = $2`,
        parameters: [location, register],
      }),
    )
    return rows.length > 0
  }

  /**
   * Holds a register for this process, and says where it is pulled; undefined where another process holds it, or it is not pulled. `anyhow`: also
   * where another one holds it.
   */
  async hold({ location, register }: RegisterName, forMs: number, anyhow: boolean): Promise<string | undefined> {
    const [row] = await this.database.write(() =>
      query<{ url: string }>({
        // Processes need not agree on the time: the database's is meant. What is held for much longer than we would was written when that was wrong.
        sql: `UPDATE ${this.table} p SET holder = $3, held_until = clock_timestamp() + $4 * interval '1 ms' FROM ${this.registers} r
              WHERE r.register_id = p.register_id AND r.location = $1 AND r.register = $2 AND r.revoked_at IS NULL
                AND ($5 OR p.holder IS NULL OR p.holder = $3 OR p.held_until NOT BETWEEN clock_timestamp() AND clock_timestamp() + $4 * interval '1 ms' + interval '1 hour')
              RETURNING p.url`,
        parameters: [location, register, this.holder, forMs, anyhow],
      }),
    )
    return row?.url
  }

  /** Lets go of all that this process holds. */
  async release(): Promise<void> {
    const sql = `UPDATE ${this.table} SET holder = NULL, held_until = NULL WHERE holder = $1`
    await this.database.write(() => query({ sql, parameters: [this.holder] }))
  }

  /** Why `hold` found nothing to be held. */
  async reason(name: RegisterName): Promise<TillsyncError> {
    const { location, register } = name
    const [row] = await this.database.read(() =>
      query<{ revoked: boolean }>({
        sql: `SELECT revoked_at IS NOT NULL AS revoked FROM ${this.registers} WHERE location = $1 AND register = $2`,
        parameters: [location, register],
      }),
    )
    const context = { location, register }
    if (row === undefined || row.revoked) {
      return new TillsyncError('ERR_REGISTER', `Register ${register} at ${location} is ${row === undefined ? 'not known' : 'revoked'}`, {
        hint: row === undefined ? 'registers.add() makes it known; registers.list() shows who is.' : 'registers.rotate() lets it in again.',
        context,
      })
    }
    return new TillsyncError('ERR_OPTION', `Register ${register} at ${location} pushes: it starts the exchanges`, {
      hint: 'Call synchronize() at the register, or say where it is pulled: registers.change(register, { pull: { url } }).',
      context,
    })
  }

  /** Where a register is pulled from now on; undefined: nowhere. */
  *point(registerId: number, url: string | undefined): Work<void> {
    const { table } = this
    if (url === undefined) yield* query({ sql: `DELETE FROM ${table} WHERE register_id = $1`, parameters: [registerId] })
    else {
      const sql = `INSERT INTO ${table} (register_id, url) VALUES ($1, $2) ON CONFLICT (register_id) DO UPDATE SET url = excluded.url`
      yield* query({ sql, parameters: [registerId, url] })
    }
  }
}

/** @throws ERR_OPTION */
export function readPullUrl(pull: PullTarget): string {
  if (typeof pull === 'object' && pull !== null) known('pull', pull, ['url'])
  const url = readUrl(pull?.url)
  if (url !== undefined) return url.href
  throw new TillsyncError('ERR_OPTION', `Expected \`pull.url\` to be an absolute http or https URL without a user, got ${typeof pull?.url}`, {
    hint: "registers.add({ location, register, pull: { url: 'https://till-3.example.com/sync' } })",
  })
}
