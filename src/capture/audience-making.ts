import type { AudienceRegister } from '../model.ts'
import type { Clock, PublishingDatabase } from '../ports.ts'
import type { AudienceSpec } from './audience-rules.ts'
import { type Audience, beginAudience, type CompiledAudience, compileAudience, findAudience, tryAudience } from './audiences.ts'
import { withinLimit } from './filter-limit.ts'
import type { RootPlan } from './table-plan.ts'

export interface AudienceMakingOptions {
  readonly database: PublishingDatabase
  readonly clock: Clock
  readonly filterTimeoutMs: number
  /** An audience was made. */
  onMade(audienceId: number): void
}

/** How long an exchange waits for an audience that is made; what is not there by then goes with a later one. */
const WAIT_MS = 2_000

/** Finds the audience that a register belongs to, or makes it: one for all registers with the same filter. */
export class AudienceMaking {
  private readonly options: AudienceMakingOptions
  /** By register, as it is described, and root table. */
  private readonly known = new Map<string, number>()
  private readonly beginning = new Map<string, Promise<Audience>>()

  constructor(options: AudienceMakingOptions) {
    this.options = options
  }

  /** Waits for those that are being made. */
  async stop(): Promise<void> {
    await Promise.allSettled(this.beginning.values())
    this.known.clear()
  }

  /** Whether the filter can be asked for this register. @throws ERR_FILTER */
  async try(register: AudienceRegister, root: RootPlan, spec: AudienceSpec): Promise<void> {
    const { database, filterTimeoutMs } = this.options
    const compiled = compileAudience(database, root, spec, register)
    await database.read(() => withinLimit(database, filterTimeoutMs, root.table, () => tryAudience(database, compiled)))
  }

  /**
   * Undefined where it is being made. Before it is, `settled` is waited for: what is touched then would be sent twice.
   *
   * @throws ERR_FILTER
   */
  async audienceOf(register: AudienceRegister, root: RootPlan, spec: AudienceSpec, settled: () => Promise<unknown>): Promise<number | undefined> {
    const { table, key } = root
    const name = JSON.stringify([nameOf(register, table), key])
    const id = this.known.get(name)
    if (id !== undefined) return id
    const { database, clock } = this.options
    const compiled = compileAudience(database, root, spec, register)
    const found = await database.read(() => findAudience(database, table, compiled.filterHash), { loosely: true })
    if (found === undefined) await settled()
    const begun = found ?? (await within(clock, this.begin(compiled)))
    if (begun !== undefined) this.known.set(name, begun.audience_id)
    return begun?.audience_id
  }

  /** It is not there any more. */
  forget(id: number | undefined): void {
    for (const [name, known] of this.known) if (known === id) this.known.delete(name)
  }

  private begin(compiled: CompiledAudience): Promise<Audience> {
    const { database, clock, filterTimeoutMs, onMade } = this.options
    const { table } = compiled.root
    const key = `${table}\n${compiled.filterHash}`
    const under = this.beginning.get(key)
    if (under !== undefined) return under
    const begin = () => beginAudience(database, compiled, new Date(clock.now()).toISOString())
    const made = database.write(() => withinLimit(database, filterTimeoutMs, table, begin), { alone: true })
    this.beginning.set(key, made)
    const ended = () => void this.beginning.delete(key)
    made.then((audience) => {
      ended()
      onMade(audience.audience_id)
    }, ended)
    return made
  }
}

/** A register as it is described now, and a root table. */
function nameOf({ location, register, attributes }: AudienceRegister, table: string): string {
  return JSON.stringify([table, location, register, attributes])
}

/** Undefined where it takes longer than an exchange waits. */
export async function within<T>(clock: Clock, made: Promise<T>): Promise<T | undefined> {
  const waiting = new AbortController()
  const late = clock.sleep(WAIT_MS, waiting.signal).then(
    () => undefined,
    () => undefined,
  )
  try {
    return await Promise.race([made, late])
  } finally {
    waiting.abort()
  }
}
