import { REGISTERS } from './apply/tables.ts'
import type { RegisterName } from './model.ts'
import type { ApplyingDatabase, Clock } from './ports.ts'
import { send } from './work.ts'

/** How often it is written down that a register spoke, where no batch of it says so. */
const WRITTEN_EVERY_MS = 300_000

interface Contact {
  /** Milliseconds since 1970. */
  readonly at: number
  /** In ticks; undefined before the first time. */
  readonly writtenAt: number | undefined
}

/** When registers were last heard of: exactly in this process, some minutes later at most in others. */
export class Contacts {
  private readonly database: ApplyingDatabase
  private readonly clock: Clock
  private readonly contacts = new Map<string, Contact>()

  constructor(database: ApplyingDatabase, clock: Clock) {
    this.database = database
    this.clock = clock
  }

  /** When it was last heard of in this process. */
  last(register: RegisterName): number | undefined {
    return this.contacts.get(keyOf(register))?.at
  }

  /** A register speaks. */
  heard(register: RegisterName): void {
    this.note(register, this.contacts.get(keyOf(register))?.writtenAt)
  }

  /** A batch of it was applied, and says when. */
  applied(register: RegisterName): void {
    this.note(register, this.clock.ticks())
  }

  /** Written down where it is due. What fails here is due again with its next message; where somebody works for the register, that one says it. */
  async write(register: RegisterName): Promise<void> {
    const { location, register: name } = register
    const before = this.contacts.get(keyOf(register))
    const now = this.clock.ticks()
    if (before === undefined || (before.writtenAt !== undefined && now - before.writtenAt < WRITTEN_EVERY_MS)) return
    this.note(register, now)
    const registers = this.database.qualify(REGISTERS.name)
    const sql = `UPDATE ${registers} SET heard_at = $3 WHERE register_id = (SELECT register_id FROM ${registers} WHERE location = $1 AND register = $2 FOR UPDATE SKIP LOCKED)`
    const parameters = [location, name, new Date(before.at).toISOString()]
    await this.database.write(() => send({ sql, parameters, keepsPlan: true }), { lazily: true }).catch(() => this.note(register, before.writtenAt))
  }

  private note(register: RegisterName, writtenAt: number | undefined): void {
    this.contacts.set(keyOf(register), { at: this.clock.now(), writtenAt })
  }
}

function keyOf({ location, register }: RegisterName): string {
  return JSON.stringify([location, register])
}
