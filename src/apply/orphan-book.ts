import { TillsyncError } from '../errors.ts'
import { checkNames, known, readLimit, readReason, unlessGiven, whole } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import type { HandlersByTable } from './batch.ts'
import { offerBack } from './orphan-returns.ts'
import { listOrphans, ORPHAN_STATES, type Orphan, type OrphanState, withdrawOrphan } from './orphans.ts'

/** Documents that central has and their registers have lost, because they were restored from a backup. They stay posted until somebody settles them. */
export interface Orphans {
  /** By id. Default: the first 100 that are not settled. `limit` is at most 1,000. */
  list(which?: {
    readonly location?: string
    readonly register?: string
    readonly table?: string
    readonly state?: OrphanState
    readonly after?: number
    readonly limit?: number
  }): Promise<readonly Orphan[]>
  /**
   * The sale was entered again at the till, under another number: posts the reversal of what the orphan has posted, takes it out of the mirror, and keeps the reason.
   *
   * @throws ERR_ORPHAN where there is none by this id, it is settled, it was sent back and not refused (unless its register is revoked), or somebody has changed it in the archive; ERR_OPTION without a reason
   */
  withdraw(id: number, options: { readonly reason: string }): Promise<void>
  /**
   * Offers it to its register from the next exchange on, which enters it into its tables where its key and its parts' are free, whole or not at all; columns that were not published get what the database
   * gives them. Sealed there, it is known again here by its contents, and then 'returned'. `list()` says by `back` and `refusal` what became of it.
   *
   * @throws ERR_ORPHAN where there is none by this id, it is settled, or somebody has changed it in the archive; ERR_TOO_LARGE where no message holds it
   */
  sendBack(id: number): Promise<void>
}

export class OrphanBook implements Orphans {
  private readonly database: ApplyingDatabase
  private readonly handlers: HandlersByTable
  private readonly ready: () => Promise<void>
  /** What a message to a register holds at most. */
  private readonly maxBytes: number

  constructor(database: ApplyingDatabase, handlers: HandlersByTable, maxBytes: number, ready: () => Promise<void>) {
    this.maxBytes = maxBytes
    this.database = database
    this.handlers = handlers
    this.ready = ready
  }

  async list(which: Parameters<Orphans['list']>[0] = {}): Promise<readonly Orphan[]> {
    known('which', which, ['location', 'register', 'table', 'state', 'after', 'limit'])
    const { location, register, table, state = 'orphaned' } = which
    checkNames({ location, register, table })
    if (!ORPHAN_STATES.includes(state))
      throw new TillsyncError('ERR_OPTION', `Expected \`state\` to be one of ${ORPHAN_STATES.join(', ')}`, {
        hint: "orphans.list({ state: 'withdrawn' })",
        context: { option: 'state' },
      })
    const after = whole('after', unlessGiven(which.after, 0), 0)
    const limit = readLimit(which.limit, 100)
    await this.ready()
    return this.database.read(() => listOrphans(this.database, { ...which, after, limit }))
  }

  async withdraw(id: number, options: { readonly reason: string }): Promise<void> {
    whole('id', id, 1)
    const reason = readReason(options, 'orphans.withdraw')
    await this.ready()
    await this.database.write(() => withdrawOrphan(this.database, this.handlers, id, reason))
  }

  async sendBack(id: number): Promise<void> {
    whole('id', id, 1)
    await this.ready()
    await this.database.write(() => offerBack(this.database, id, this.maxBytes))
  }
}
