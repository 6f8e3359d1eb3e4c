import { REGISTERS } from './apply/tables.ts'
import { AUDIENCE_REGISTERS, AUDIENCES } from './capture/audience-tables.ts'
import type { RegisterName } from './model.ts'
import { Periodic } from './periodic.ts'
import type { ApplyingDatabase, Clock } from './ports.ts'
import type { Holds } from './transport/holds.ts'
import { query } from './work.ts'

export interface HeraldOptions {
  readonly database: ApplyingDatabase
  readonly clock: Clock
  /** Answers that are held back for registers that push. */
  readonly holds: Holds
  /** A register that is pulled. */
  wake(register: RegisterName): void
}

/** How often it is looked what another process has sealed. */
const LOOK_MS = 1_000

/** Tells the registers of an audience that there is something new for them: those that wait for an answer get it, those that are pulled are asked. */
export class Herald {
  private readonly options: HeraldOptions
  /** Where each stream stood when it was last looked. */
  private heads = new Map<number, number>()
  private readonly looking: Periodic
  private telling: Promise<void> = Promise.resolve()

  constructor(options: HeraldOptions) {
    this.options = options
    // Whoever has something to say of the database says so.
    this.looking = new Periodic(
      options.clock,
      LOOK_MS,
      () => this.look(),
      () => undefined,
    )
  }

  start(): void {
    this.looking.start()
  }

  async stop(): Promise<void> {
    await this.looking.stop()
    await this.telling
  }

  /** These streams have moved. What fails is made up for when it is looked the next time. */
  tell(audiences: ReadonlySet<number>): void {
    if (audiences.size === 0) return
    this.telling = this.telling.then(() => this.call([...audiences])).catch(() => undefined)
  }

  private async call(audiences: readonly number[]): Promise<void> {
    const { database, holds, wake } = this.options
    const sql = `SELECT DISTINCT location, register FROM ${database.qualify(AUDIENCE_REGISTERS.name)} a JOIN ${database.qualify(REGISTERS.name)} r USING (register_id)
                 WHERE a.audience_id = ANY($1)`
    for (const register of await database.read(() => query<RegisterName>({ sql, parameters: [audiences] }), { loosely: true })) {
      holds.tell(register)
      wake(register)
    }
  }

  private async look(): Promise<void> {
    const { database } = this.options
    const select = database.build.selectFrom(AUDIENCES.name).select(['audience_id', 'head_no']).compile()
    const rows = await database.read(() => query<{ audience_id: number; head_no: number }>(select), { loosely: true })
    const moved = rows.filter(({ audience_id, head_no }) => this.heads.get(audience_id) !== head_no)
    this.heads = new Map(rows.map(({ audience_id, head_no }) => [audience_id, head_no]))
    this.tell(new Set(moved.map(({ audience_id }) => audience_id)))
  }
}
