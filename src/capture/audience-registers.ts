import type { AudienceStanding, UnappliedDocument } from '../model.ts'
import type { CapturingDatabase, Clock } from '../ports.ts'
import { erase, insert, query } from '../work.ts'
import { AUDIENCE_REGISTERS, AUDIENCES, UNAPPLIED } from './audience-tables.ts'

/** How often it is written down that a register asked, where nothing else is new. */
const HEARD_EVERY_MS = 3_600_000

/** What the registers say of themselves as subscribers, written down where it is news. */
export class AudienceRegisters {
  private readonly database: CapturingDatabase
  private readonly clock: Clock
  /** How far each register had come when that was last written down, and when, in ticks. */
  private readonly noted = new Map<number, { readonly text: string; readonly at: number }>()

  constructor(database: CapturingDatabase, clock: Clock) {
    this.database = database
    this.clock = clock
  }

  /** How far a register has come. */
  async note(registerId: number, standings: readonly AudienceStanding[], audiences: ReadonlyMap<string, number>): Promise<void> {
    const { database } = this
    const now = this.clock.now()
    const ticks = this.clock.ticks()
    const rows = standings.flatMap(({ table, entryNo, stream }) => {
      const id = audiences.get(table)
      return id === undefined ? [] : [{ table, id, entryNo, isKnown: stream !== undefined }]
    })
    const text = JSON.stringify(rows)
    if (rows.length === 0 || this.isNoted(registerId, text, ticks)) return
    const at = new Date(now).toISOString()
    await database.write(
      function* () {
        yield* insert(
          AUDIENCE_REGISTERS,
          rows.map(({ table, id, entryNo, isKnown }) => [registerId, table, id, entryNo, isKnown, at]),
          AUDIENCE_REGISTERS.primaryKey,
        )
        const ids = [...new Set(rows.map(({ id }) => id))]
        const old = new Date(now - HEARD_EVERY_MS).toISOString()
        yield* query(
          database.build.updateTable(AUDIENCES.name).set({ asked_at: at }).where('audience_id', 'in', ids).where('asked_at', '<', old).compile(),
        )
      },
      { lazily: true },
    )
    this.noted.set(registerId, { text, at: ticks })
  }

  /** What it could not apply. Says whether that is news. What is known of it is in the database: other processes hear of it too. */
  async hear(registerId: number, unapplied: readonly UnappliedDocument[]): Promise<boolean> {
    const { database } = this
    const rows = unapplied.map(({ table, recordId, code, message }) => [registerId, table, recordId, code, message])
    const known = await this.unapplied(registerId)
    if (rows.length === known.size && rows.every((row) => known.has(JSON.stringify(row)))) return false
    const at = new Date(this.clock.now()).toISOString()
    await database.write(function* () {
      yield* erase(UNAPPLIED, ['register_id'], [[registerId]])
      yield* insert(
        UNAPPLIED,
        rows.map((row) => [...row, at]),
        UNAPPLIED.primaryKey,
      )
    })
    return rows.length > 0
  }

  private isNoted(registerId: number, text: string, ticks: number): boolean {
    const before = this.noted.get(registerId)
    return before?.text === text && ticks - before.at < HEARD_EVERY_MS
  }

  private async unapplied(registerId: number): Promise<ReadonlySet<string>> {
    const { database } = this
    const columns = ['register_id', 'table_name', 'record_id', 'code', 'message'] as const
    const select = database.build.selectFrom(UNAPPLIED.name).select(columns).where('register_id', '=', registerId).compile()
    const rows = await database.read(() => query<Readonly<Record<(typeof columns)[number], unknown>>>(select), { loosely: true })
    return new Set(rows.map((row) => JSON.stringify(columns.map((name) => row[name]))))
  }
}
