import { Comparing, type Means } from './comparing.ts'
import { unanswered } from './comparison-errors.ts'
import { TillsyncError } from './errors.ts'
import type { RegisterName, Value } from './model.ts'
import { checkName, known, unlessGiven, whole } from './options.ts'
import { checkRegister } from './registers.ts'

/** A document that is not the same at central and at its register. */
export interface Difference {
  readonly recordId: readonly Value[]
  /**
   * - `different`: central's archive has another version than the register has published, or one that somebody has changed by hand.
   * - `missing`: the register has published it, and central lacks it.
   * - `surplus`: central has it, and the register neither publishes it nor has said that it was removed.
   */
  readonly kind: 'different' | 'missing' | 'surplus'
}

/** How the archive of central and what a register has published compare. */
export interface Comparison extends RegisterName {
  readonly table: string
  /** Documents that are the same on both sides. */
  readonly equal: number
  /** Documents that are not. */
  readonly differing: number
  /** They, by record id; at most 1,000. */
  readonly differences: readonly Difference[]
  /** Documents that changed meanwhile: they came after the register had answered. */
  readonly changed: number
  /** Documents that are not the same because the register can't read what stands there now. */
  readonly parked: number
  /** Documents of a table that central publishes to the register, too, and that are central's own: the register has last got them from there, or may have removed them at central's word. */
  readonly received: number
  /** With `repair`: how many of the differing ones the register was asked for, and has sealed and sent again. */
  readonly repaired: number
}

export interface CompareProgress extends RegisterName {
  readonly table: string
  /** Documents that were compared so far. */
  readonly compared: number
  readonly differing: number
}

export interface CompareOptions {
  /** Has exactly the differing documents sealed and sent again. */
  readonly repair?: boolean
  /** How long it waits without hearing anything of the register, in milliseconds. Default 5 minutes. */
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
  /** Told after each answer. */
  readonly onProgress?: (progress: CompareProgress) => void
}

export interface CompareBookOptions extends Omit<Means, 'sleep'> {
  ready(): Promise<void>
}

const TIMEOUT_MS = 300_000
/** A register that is restored while it is compared is compared anew, so often. */
const TRIES = 3

/** Compares what registers have published with the archive. */
export class CompareBook {
  private readonly options: CompareBookOptions
  /** How often registers that somebody waits for were heard, by name, and who sleeps until they are again. */
  private readonly listening = new Map<string, { heard: number; readonly sleepers: Set<AbortController>; waiting: number }>()
  private readonly running = new Set<Promise<unknown>>()
  private stopping = new AbortController()

  constructor(options: CompareBookOptions) {
    this.options = options
  }

  async compare(table: string, register: RegisterName, options: CompareOptions = {}): Promise<Comparison> {
    checkName('table', table)
    checkRegister(register)
    known('options', options, ['repair', 'timeoutMs', 'signal', 'onProgress'])
    if (options.repair !== undefined && typeof options.repair !== 'boolean')
      throw new TillsyncError('ERR_OPTION', `Expected \`repair\` to be a boolean, got ${typeof options.repair}`, {
        hint: 'compare(table, register, { repair: true })',
        context: { option: 'repair' },
      })
    const timeoutMs = whole('timeoutMs', unlessGiven(options.timeoutMs, TIMEOUT_MS), 1)
    await this.options.ready()
    const { location, register: name } = register
    const running = this.run(table, { location, register: name }, options, timeoutMs)
    this.running.add(running)
    return running.finally(() => this.running.delete(running))
  }

  private async run(table: string, register: RegisterName, options: CompareOptions, timeoutMs: number): Promise<Comparison> {
    const signal = AbortSignal.any([this.stopping.signal, ...(options.signal ? [options.signal] : [])])
    const key = keyOf(register)
    const ear = this.listening.get(key) ?? { heard: 0, sleepers: new Set<AbortController>(), waiting: 0 }
    this.listening.set(key, ear)
    ear.waiting++
    let seen = ear.heard
    const sleep = async (ms: number): Promise<void> => {
      if (seen === ear.heard) {
        const waking = new AbortController()
        ear.sleepers.add(waking)
        await this.options.clock.sleep(ms, AbortSignal.any([signal, waking.signal])).catch(() => undefined)
        ear.sleepers.delete(waking)
      }
      seen = ear.heard
    }
    try {
      for (let tries = 1; tries <= TRIES; tries++) {
        const comparing = new Comparing({ ...this.options, sleep }, { table, register, options, timeoutMs, signal })
        const compared = await comparing.run()
        if (compared !== undefined) return compared
      }
      throw unanswered(register, 'is restored again and again while it is compared')
    } finally {
      if (--ear.waiting === 0) this.listening.delete(key)
    }
  }

  /** Something was heard of a register. */
  heard(register: RegisterName): void {
    const ear = this.listening.get(keyOf(register))
    if (ear === undefined) return
    ear.heard++
    for (const sleeper of ear.sleepers) sleeper.abort()
  }

  start(): void {
    if (this.stopping.signal.aborted) this.stopping = new AbortController()
  }

  /** Ends what is under way, and waits for it. */
  async stop(): Promise<void> {
    this.stopping.abort(new TillsyncError('ERR_STOPPED', 'Central is stopped', { retryable: true }))
    await Promise.allSettled(this.running)
  }
}

function keyOf({ location, register }: RegisterName): string {
  return JSON.stringify([location, register])
}
