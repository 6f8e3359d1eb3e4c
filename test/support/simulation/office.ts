import type { Pool } from 'pg'
import { postgres } from '../../../src/adapters/postgres/adapter.ts'
import { CentralReplica } from '../../../src/central.ts'
import type { RegisterName } from '../../../src/index.ts'
import { answer } from '../../../src/transport/answer.ts'
import { Holds } from '../../../src/transport/holds.ts'
import type { Random } from '../random.ts'
import { purchase } from './buyer.ts'
import { type SimulatedClock, WallClock } from './clock.ts'
import { TOKEN } from './network.ts'
import { type RowBackup, Rows } from './row-backup.ts'
import { AUDIENCES, CENTRAL_TABLES, type Mapping, NEVER_CHANGED, subscribeRules } from './tables.ts'

const TAKES = { message: 1_048_576, document: 1_048_576 }
const RETAIN_MS = 24 * 3_600_000
/** Schedules between which the room of deleted rows is given back. */
const VACUUM_EVERY = 100

/** Head office, on one database for all schedules. */
export class Office {
  readonly pool: Pool
  readonly mapping: Mapping = { factor: 1 }
  central: CentralReplica
  /** A second process on the same database, which takes every other message. */
  private other: CentralReplica | undefined
  private messages = 0
  clock: WallClock
  prunesArchive = false
  private isDouble = false
  private pulled: typeof fetch | undefined
  private readonly time: SimulatedClock
  private readonly rows: Rows
  private readonly backups: RowBackup[] = []
  private empty: RowBackup = new Map()
  private schedules = 0

  private constructor(pool: Pool, time: SimulatedClock) {
    this.pool = pool
    this.time = time
    this.clock = new WallClock(time)
    this.rows = new Rows(pool, 'public')
    this.central = this.process()
  }

  static async open(pool: Pool, time: SimulatedClock): Promise<Office> {
    await pool.query(CENTRAL_TABLES)
    const office = new Office(pool, time)
    await office.central.install()
    await pool.query(NEVER_CHANGED)
    office.empty = await office.rows.backup()
    return office
  }

  /** As it was before the first register. @param pulled where registers are reached that do not reach head office */
  async begin(
    registers: readonly RegisterName[],
    { pulled, prunesArchive, isDouble }: Pick<Office, 'prunesArchive'> & { readonly pulled: typeof fetch | undefined; readonly isDouble: boolean },
  ): Promise<void> {
    // What a process has learnt of another database is not to count in this one.
    await this.stop()
    if (++this.schedules % VACUUM_EVERY === 0) await this.rows.empty()
    await this.rows.restore(this.empty)
    this.clock = new WallClock(this.time)
    this.pulled = pulled
    this.prunesArchive = prunesArchive
    this.isDouble = isDouble
    this.open()
    this.backups.length = 0
    this.mapping.factor = 1
    for (const register of registers)
      await this.central.registers.add({ ...register, attributes: { group: 'A' }, ...(pulled && { pull: { url: `http://${register.register}/` } }) })
    await this.backup()
  }

  /** Head office changes what tills are to have. */
  async purchase(random: Random): Promise<void> {
    await this.pool.query(purchase(random, ['POS1', 'POS2']))
  }

  async backup(): Promise<void> {
    this.backups.push(await this.rows.backup())
  }

  /** What it has received is old by now. */
  async prune(): Promise<void> {
    await this.pool.query("BEGIN; SET LOCAL session_replication_role = 'replica'; UPDATE sync_archive SET received_at = '2000-01-01'; COMMIT")
    await this.central.prune()
  }

  /** What was done to credentials since is lost too. */
  async restore(number: number): Promise<void> {
    await this.stop()
    await this.rows.restore(this.backups[number % this.backups.length] as RowBackup)
    await this.restart()
  }

  async restart(): Promise<void> {
    await this.stop()
    this.open()
    // In the background it would pull whenever it likes.
    if (this.pulled === undefined) await this.central.start()
  }

  async stop(): Promise<void> {
    await this.central.stop()
    await this.other?.stop()
  }

  async receive(from: RegisterName, bytes: Uint8Array): Promise<Uint8Array> {
    const holds = new Holds(this.clock, 0)
    const central = ++this.messages % 2 === 0 && this.other ? this.other : this.central
    // It opens its database when it is first asked for something.
    if (central === this.other) await central.registers.list()
    return answer({ subscriber: central, takes: TAKES, holds, audiences: central.publishing, async ready() {}, onRefused() {} }, from, bytes)
  }

  private open(): void {
    this.central = this.process()
    this.other = this.isDouble ? this.process() : undefined
  }

  private process(): CentralReplica {
    const rules = { subscribe: subscribeRules(this.mapping), publish: AUDIENCES }
    return new CentralReplica(
      {
        database: postgres(this.pool),
        ...rules,
        ...(this.prunesArchive && { retainArchiveMs: RETAIN_MS }),
        ...(this.pulled && { pull: { token: () => TOKEN, fetch: this.pulled } }),
      },
      this.clock,
    )
  }
}
