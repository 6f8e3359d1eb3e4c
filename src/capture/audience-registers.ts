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
  /** What was last written down, and when, in ticks. */
  private readonly noted = new Map<string, { readonly text: string; readonly at: number }>()

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
    const key = `standings ${registerId}`
    const text = JSON.stringify(rows)
    if (rows.length === 0 || this.isNoted(key, text, ticks)) return
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
    this.noted.set(key, { text, at: ticks })
  }

  /** What it could not apply. Says whether that is news. */
  async hear(registerId: number, unapplied: readonly UnappliedDocument[]): Promise<boolean> {
    const { database } = this
    const key = `unapplied ${registerId}`
    const rows = unapplied.map(({ table, recordId, code, message }) => [registerId, table, recordId, code, message])
    const text = JSON.stringify(rows)
    if (this.noted.get(key)?.text === text || (rows.length === 0 && !(await this.hasUnapplied(registerId)))) return false
    const at = new Date(this.clock.now()).toISOString()
    await database.write(function* () {
      yield* erase(UNAPPLIED, ['register_id'], [[registerId]])
      yield* insert(
        UNAPPLIED,
        rows.map((row) => [...row, at]),
        UNAPPLIED.primaryKey,
      )
    })
    this.noted.set(key, { text, at: this.clock.ticks() })
    return rows.length > 0
  }

  private isNoted(key: string, text: string, ticks: number): boolean {
    const before = this.noted.get(key)
    return before?.text === text && ticks - before.at < HEARD_EVERY_MS
  }

  private async hasUnapplied(registerId: number): Promise<boolean> {
    const { database } = this
    const select = database.build.selectFrom(UNAPPLIED.name).select('table_name').where('register_id', '=', registerId).limit(1).compile()
    return (await database.read(() => query(select), { loosely: true })).length > 0
  }
}
