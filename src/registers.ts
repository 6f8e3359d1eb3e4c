import { isoTime } from './apply/archived.ts'
import { CREDENTIALS, EPOCHS, QUARANTINE, REGISTERS } from './apply/tables.ts'
import { type RotateOptions, readOverlapMs } from './central-options.ts'
import type { Contacts } from './contacts.ts'
import { TillsyncError } from './errors.ts'
import type { Attributes, AudienceRegister, RegisterName } from './model.ts'
import { checkName, isPostable, known, readAttributes } from './options.ts'
import type { ApplyingDatabase, Clock } from './ports.ts'
import { type PullBook, readPullUrl } from './pull-book.ts'
import type { ListedRegister, NewRegister, RegisterChanges, Registers } from './registers-face.ts'
import { createToken, hashToken } from './transport/credentials.ts'
import { query, type Work } from './work.ts'

/** As much as the clocks of central's processes may differ. */
const CLOCKS_DIFFER_MS = 300_000

interface ListedRow {
  readonly location: string
  readonly register: string
  readonly added_at: string
  readonly revoked_at: string | null
  readonly used_at: string | null
  readonly overlap_ends_at: string | null
  readonly contact_at: string | null
  readonly heard_at: string | null
  readonly version: string | null
  readonly epoch: string | null
  readonly entry_no: number
  readonly pending: number
  readonly copies: string | null
  readonly quarantined: number
  readonly url: string | null
  readonly attributes: string | null
}

interface DescribedRegister extends AudienceRegister {
  readonly registerId: number
}

export class RegisterBook implements Registers {
  private readonly database: ApplyingDatabase
  private readonly clock: Clock
  private readonly ready: () => Promise<void>
  private readonly registers: string
  private readonly credentials: string
  private readonly epochs: string
  private readonly quarantine: string
  private readonly pulls: PullBook
  private readonly contacts: Contacts
  private readonly tryOut: (register: AudienceRegister) => Promise<void>

  /** @param tryOut throws where a filter can't be asked for this register */
  constructor(
    database: ApplyingDatabase,
    clock: Clock,
    pulls: PullBook,
    contacts: Contacts,
    ready: () => Promise<void>,
    tryOut: (register: AudienceRegister) => Promise<void>,
  ) {
    this.tryOut = tryOut
    this.database = database
    this.clock = clock
    this.pulls = pulls
    this.contacts = contacts
    this.ready = ready
    this.registers = database.qualify(REGISTERS.name)
    this.credentials = database.qualify(CREDENTIALS.name)
    this.quarantine = database.qualify(QUARANTINE.name)
    this.epochs = database.qualify(EPOCHS.name)
  }

  async add(register: NewRegister): Promise<{ readonly token: string }> {
    checkRegister(register)
    known('register', register, ['location', 'register', 'pull', 'attributes'])
    const url = register.pull === undefined ? undefined : readPullUrl(register.pull)
    const attributes = register.attributes === undefined ? {} : readAttributes(register.attributes)
    await this.ready()
    await this.tryOut({ location: register.location, register: register.register, attributes })
    const token = createToken()
    await this.database.write(() => this.enter(register, url, attributes, token, this.at()))
    return { token }
  }

  async change(register: RegisterName, changes: RegisterChanges): Promise<void> {
    checkRegister(register)
    if (typeof changes !== 'object' || changes === null || !('pull' in changes || 'attributes' in changes))
      throw new TillsyncError('ERR_OPTION', 'Expected `changes` to be an object with `pull` or `attributes`', {
        hint: "registers.change(register, { attributes: { priceGroup: 'A' } })",
      })
    known('changes', changes, ['pull', 'attributes'])
    const url = changes.pull === undefined ? undefined : readPullUrl(changes.pull)
    const attributes = 'attributes' in changes ? readAttributes(changes.attributes) : undefined
    await this.ready()
    if (attributes) await this.tryOut({ location: register.location, register: register.register, attributes })
    const { registers, pulls } = this
    await this.database.write(function* () {
      const sql = `SELECT register_id FROM ${registers} WHERE location = $1 AND register = $2`
      const [row] = yield* query<{ register_id: number }>({ sql, parameters: [register.location, register.register] })
      if (row === undefined) throw unknown(register)
      if ('pull' in changes) yield* pulls.point(row.register_id, url)
      if (attributes === undefined) return
      yield* query({
        sql: `UPDATE ${registers} SET attributes = $2 WHERE register_id = $1`,
        parameters: [row.register_id, JSON.stringify(attributes)],
      })
    })
  }

  async rotate(register: RegisterName, options: RotateOptions = {}): Promise<{ readonly token: string }> {
    checkRegister(register)
    const overlapMs = readOverlapMs(options)
    await this.ready()
    const token = createToken()
    await this.database.write(() => this.replace(register, token, overlapMs))
    return { token }
  }

  async revoke(register: RegisterName): Promise<void> {
    checkRegister(register)
    await this.ready()
    await this.database.write(() => this.withdraw(register, this.at()))
  }

  async reset(register: RegisterName): Promise<void> {
    checkRegister(register)
    await this.ready()
    const sql = `UPDATE ${this.registers} SET reset = true, held = false WHERE location = $1 AND register = $2 RETURNING register_id`
    const found = await this.database.write(() => query({ sql, parameters: [register.location, register.register] }))
    if (found.length === 0) throw unknown(register)
  }

  async keep(register: RegisterName, copy: { readonly epoch: string }): Promise<void> {
    checkRegister(register)
    known('copy', copy, ['epoch'])
    if (typeof copy.epoch !== 'string' || !isPostable(copy.epoch))
      throw new TillsyncError('ERR_OPTION', 'Expected `epoch` to be that of one of the copies', { hint: 'registers.list() names them.' })
    await this.ready()
    await this.database.write(() => this.choose(register, copy.epoch))
  }

  async list(): Promise<readonly ListedRegister[]> {
    await this.ready()
    const { registers, credentials } = this
    const rows = await this.database.read(() =>
      query<ListedRow>({
        sql: `SELECT location, register, ${isoTime('added_at')} AS added_at, ${isoTime('revoked_at')} AS revoked_at, epoch, entry_no,
                greatest(coalesce(head_no, 0) - entry_no, 0) AS pending,
                ${isoTime('contact_at')} AS contact_at, ${isoTime('heard_at')} AS heard_at, version,
                (SELECT ${isoTime('used_at')} FROM ${credentials} c WHERE c.register_id = r.register_id AND ends_at IS NULL) AS used_at,
                (SELECT ${isoTime('ends_at')} FROM ${credentials} c WHERE c.register_id = r.register_id AND ends_at > $1) AS overlap_ends_at,
                CASE WHEN held THEN (SELECT json_agg(json_build_object('epoch', e.epoch, 'entryNo', coalesce(e.entry_no, r.entry_no)) ORDER BY e.epoch_no)
                                     FROM ${this.epochs} e WHERE e.register_id = r.register_id AND e.state IN ('current', 'cloned')) END AS copies,
                (SELECT count(*) FROM ${this.quarantine} q WHERE q.register_id = r.register_id AND q.state = 'waiting') AS quarantined,
                (SELECT url FROM ${this.pulls.table} p WHERE p.register_id = r.register_id) AS url, attributes
              FROM ${registers} r ORDER BY location, register`,
        parameters: [this.at()],
      }),
    )
    return rows.map((row) => ({
      location: row.location,
      register: row.register,
      addedAt: row.added_at,
      revokedAt: row.revoked_at ?? undefined,
      tokenUsedAt: row.used_at ?? undefined,
      overlapEndsAt: row.overlap_ends_at ?? undefined,
      lastContact: latest([row.contact_at, row.heard_at, this.contacts.last(row)], this.clock.now()),
      version: row.version ?? undefined,
      lastBatch: row.contact_at ?? undefined,
      epoch: row.epoch ?? undefined,
      entryNo: row.entry_no,
      pending: row.pending,
      copies: row.copies === null ? undefined : JSON.parse(row.copies),
      quarantined: row.quarantined,
      pull: row.url === null ? undefined : { url: row.url },
      attributes: row.attributes === null ? {} : JSON.parse(row.attributes),
    }))
  }

  /** What filters are asked about it; undefined where it is not known. */
  async describe({ location, register }: RegisterName): Promise<DescribedRegister | undefined> {
    return (await this.describeAll({ location, register }))[0]
  }

  /** The same of all, of a location's, or of one. */
  async describeAll(which: { readonly location?: string; readonly register?: string } = {}): Promise<readonly DescribedRegister[]> {
    const sql = `SELECT register_id, location, register, attributes FROM ${this.registers}
                 WHERE ($1::text IS NULL OR location = $1) AND ($2::text IS NULL OR register = $2) ORDER BY location, register`
    const found = () =>
      query<RegisterName & { register_id: number; attributes: string | null }>({ sql, parameters: [which.location ?? null, which.register ?? null] })
    const rows = await this.database.read(found, { loosely: true })
    return rows.map(({ register_id, location, register, attributes }) => ({
      registerId: register_id,
      location,
      register,
      attributes: attributes === null ? {} : JSON.parse(attributes),
    }))
  }

  private *enter(register: RegisterName, url: string | undefined, attributes: Attributes, token: string, at: string): Work<void> {
    const [added] = yield* query<{ register_id: number }>({
      sql: `INSERT INTO ${this.registers} (location, register, added_at, attributes, epoch_no, entry_no, held, reset, unsettled) VALUES ($1, $2, $3, $4, 0, 0, false, false, false)
            ON CONFLICT (location, register) DO NOTHING RETURNING register_id`,
      parameters: [register.location, register.register, at, JSON.stringify(attributes)],
    })
    if (added === undefined) throw refused(register, 'is known already', 'Its token was shown when it was added; rotate() gives it a new one.')
    yield* this.issue(added.register_id, token, at)
    if (url !== undefined) yield* this.pulls.point(added.register_id, url)
  }

  private *replace(register: RegisterName, token: string, overlapMs: number): Work<void> {
    const { credentials } = this
    const id = yield* this.take(register)
    const at = this.at()
    yield* query({
      sql: `DELETE FROM ${credentials} WHERE register_id = $1 AND token_hash IS DISTINCT FROM (
              SELECT token_hash FROM ${credentials} WHERE register_id = $1 AND (ends_at IS NULL OR ends_at > $2) AND $3
              ORDER BY used_at IS NULL, ends_at IS NOT NULL LIMIT 1)`,
      parameters: [id, at, overlapMs > 0],
    })
    yield* query({ sql: `UPDATE ${credentials} SET ends_at = $2 WHERE register_id = $1`, parameters: [id, this.at(overlapMs)] })
    yield* this.issue(id, token, at)
    yield* query({ sql: `UPDATE ${this.registers} SET revoked_at = NULL WHERE register_id = $1 AND revoked_at IS NOT NULL`, parameters: [id] })
  }

  private *withdraw(register: RegisterName, at: string): Work<void> {
    const id = yield* this.take(register)
    yield* query({ sql: `DELETE FROM ${this.credentials} WHERE register_id = $1`, parameters: [id] })
    yield* query({ sql: `UPDATE ${this.registers} SET revoked_at = coalesce(revoked_at, $2) WHERE register_id = $1`, parameters: [id, at] })
  }

  private *choose(register: RegisterName, epoch: string): Work<void> {
    const [row] = yield* query<{ register_id: number; state: string | null }>({
      sql: `SELECT register_id, (SELECT state FROM ${this.epochs} e WHERE e.register_id = r.register_id AND e.epoch = $3) AS state
            FROM ${this.registers} r WHERE location = $1 AND register = $2 FOR UPDATE`,
      parameters: [register.location, register.register, epoch],
    })
    if (row === undefined) throw unknown(register)
    const { register_id, state } = row
    if (state === null)
      throw refused(
        register,
        'was never met in this epoch',
        'registers.list() names the copies, status().head at the till its own. Was its database set up anew? Then registers.reset().',
      )
    yield* query({
      sql: `UPDATE ${this.epochs} SET state = CASE WHEN state = 'current' THEN state WHEN epoch = $2 THEN 'kept' WHEN state IN ('cloned', 'kept') THEN 'dismissed' ELSE state END
            WHERE register_id = $1`,
      parameters: [register_id, epoch],
    })
    // Where it is not the one in whose epoch central stands, nothing else is taken until it has come.
    const held = state !== 'current'
    yield* query({ sql: `UPDATE ${this.registers} SET held = $2 WHERE register_id = $1`, parameters: [register_id, held] })
  }

  private *issue(id: number, token: string, at: string): Work<void> {
    const sql = `INSERT INTO ${this.credentials} (token_hash, register_id, issued_at) VALUES ($1, $2, $3)`
    yield* query({ sql, parameters: [hashToken(token), id, at] })
  }

  /** One change of tokens after another: two at once would leave three of them. Batches, which lock their register's row, are not held up. */
  private *take(register: RegisterName): Work<number> {
    yield* query({ sql: `LOCK TABLE ${this.credentials} IN SHARE ROW EXCLUSIVE MODE`, parameters: [] })
    const sql = `SELECT register_id FROM ${this.registers} WHERE location = $1 AND register = $2`
    const [row] = yield* query<{ register_id: number }>({ sql, parameters: [register.location, register.register] })
    if (row === undefined) throw unknown(register)
    return row.register_id
  }

  private at(inMs = 0): string {
    return new Date(this.clock.now() + inMs).toISOString()
  }
}

/** The last of these moments; those that a clock has written that was far ahead count where there are no others. */
function latest(moments: readonly (string | number | null | undefined)[], now: number): string | undefined {
  const all = moments.filter((moment) => moment !== null && moment !== undefined).map((moment) => new Date(moment).getTime())
  const past = all.filter((moment) => moment <= now + CLOCKS_DIFFER_MS)
  return all.length === 0 ? undefined : new Date(Math.max(...(past.length > 0 ? past : all))).toISOString()
}

export function checkRegister(register: RegisterName): void {
  checkName('location', register?.location)
  checkName('register', register?.register)
}

export function checkTarget(to: { readonly location: string; readonly register?: string }): void {
  if (typeof to !== 'object' || to === null)
    throw new TillsyncError('ERR_OPTION', 'Expected `to` to be an object with `location`', { hint: "{ to: { location: 'BA01' } }" })
  known('to', to, ['location', 'register'])
  checkName('to.location', to.location)
  if (to.register !== undefined) checkName('to.register', to.register)
}

function unknown(register: RegisterName): TillsyncError {
  return refused(register, 'is not known', 'registers.add() makes it known; registers.list() shows who is.')
}

function refused({ location, register }: RegisterName, why: string, hint: string): TillsyncError {
  return new TillsyncError('ERR_REGISTER', `Register ${register} at ${location} ${why}`, { hint, context: { location, register } })
}
