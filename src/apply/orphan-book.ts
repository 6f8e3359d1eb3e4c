import { TillsyncError } from '../errors.ts'
import { known, whole } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import type { HandlersByTable } from './batch.ts'
import { listOrphans, type Orphan, type OrphanState, withdrawOrphan } from './orphans.ts'

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
   * @throws ERR_ORPHAN where there is none by this id, or it is settled; ERR_OPTION without a reason
   */
  withdraw(id: number, options: { readonly reason: string }): Promise<void>
}

export class OrphanBook implements Orphans {
  private readonly database: ApplyingDatabase
  private readonly handlers: HandlersByTable
  private readonly ready: () => Promise<void>

  constructor(database: ApplyingDatabase, handlers: HandlersByTable, ready: () => Promise<void>) {
    this.database = database
    this.handlers = handlers
    this.ready = ready
  }

  async list(which: Parameters<Orphans['list']>[0] = {}): Promise<readonly Orphan[]> {
    known('which', which, ['location', 'register', 'table', 'state', 'after', 'limit'])
    const after = whole('after', which.after ?? 0, 0)
    const limit = Math.min(1_000, whole('limit', which.limit ?? 100, 1))
    await this.ready()
    return this.database.read(() => listOrphans(this.database, { ...which, after, limit }))
  }

  async withdraw(id: number, options: { readonly reason: string }): Promise<void> {
    whole('id', id, 1)
    known('options', options ?? {}, ['reason'])
    const reason = options?.reason
    if (typeof reason !== 'string' || reason.trim() === '')
      throw new TillsyncError('ERR_OPTION', 'Expected `reason` to say why the document is withdrawn', {
        hint: "withdraw(id, { reason: 'entered again as R-4712' })",
      })
    await this.ready()
    await this.database.write(() => withdrawOrphan(this.database, this.handlers, id, reason))
  }
}
