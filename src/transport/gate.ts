import PQueue from 'p-queue'
import QuickLRU from 'quick-lru'
import type { Limits } from '../central-options.ts'
import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { Clock } from '../ports.ts'
import { bearerToken, hashToken } from './credentials.ts'
import { Limiter } from './limiter.ts'
import { sourceKey, Voucher } from './source.ts'

/** What was refused, whose, and where it came from, as far as that is known. */
export interface Refusal {
  readonly register: RegisterName | undefined
  readonly source: string | undefined
  readonly error: TillsyncError
}

/** An Authorization header, or who asks where nothing came over a wire. */
export type Credential = string | null | Voucher

export interface GateOptions {
  readonly limits: Required<Limits>
  readonly clock: Clock
  /** Whose token it is; undefined where it is nobody's. */
  identify(token: string): Promise<RegisterName | undefined>
  /** Whether any token of it is valid. Without it nobody is let in by a voucher. */
  isKnown?(register: RegisterName): Promise<boolean>
  /** Told once of each that is held off. */
  onRefused(refusal: Refusal): void
}

const WINDOW_MS = 60_000
/** Tokens that were not seen before are looked up by so many connections; registers that are known need not wait behind them. */
const LOOKUPS = 2
const WAITING = 10_000

/** Decides by header and source alone who may send a message. */
export class Gate {
  private readonly options: GateOptions
  /** By source; by token where there is none. */
  private readonly wrong: Limiter
  /** By register. */
  private readonly exchanges: Limiter
  /** Who came with which token lately, by its hash. Only spares them what strangers must bear; each request is looked up all the same. */
  private readonly known: QuickLRU<string, RegisterName>
  private readonly lookups = new PQueue({ concurrency: LOOKUPS })

  constructor(options: GateOptions) {
    const { limits, clock } = options
    const keys = limits.remembered
    this.options = options
    this.wrong = new Limiter({ clock, keys, limit: limits.wrongTokens, windowMs: WINDOW_MS, holdMs: limits.lockOutMs })
    this.exchanges = new Limiter({ clock, keys, limit: limits.exchangesPerMinute, windowMs: WINDOW_MS })
    this.known = new QuickLRU({ maxSize: keys })
  }

  /** @throws ERR_CREDENTIAL, ERR_LOCKED_OUT, ERR_RATE_LIMIT, ERR_BUSY, and what `identify` throws */
  async admit(credential: Credential, source: string | undefined): Promise<RegisterName> {
    if (credential instanceof Voucher) return this.admitVouched(credential)
    const token = bearerToken(credential)
    const hash = token === undefined ? undefined : hashToken(token).toString('base64')
    const counted = source === undefined ? hash : sourceKey(source)
    const known = hash === undefined ? undefined : this.known.get(hash)
    if (known !== undefined) this.refuseFast(known, source)
    else this.refuseLockedOut(counted, source)
    const register = token === undefined ? undefined : await this.identify(token, known !== undefined, () => this.refuseLockedOut(counted, source))
    if (hash === undefined || register === undefined) {
      if (hash !== undefined) this.known.delete(hash)
      if (counted !== undefined) this.wrong.count(counted)
      throw unknownToken()
    }
    this.known.set(hash, register)
    this.refuseFast(register, source)
    this.exchanges.count(keyOf(register))
    return register
  }

  /**
   * Whether a request that was let in before would be let in still.
   *
   * @throws ERR_CREDENTIAL, and what `identify` throws
   */
  async confirm(credential: Credential, register: RegisterName): Promise<void> {
    if (credential instanceof Voucher) return this.requireKnown(credential)
    const token = bearerToken(credential)
    const now = token === undefined ? undefined : await this.options.identify(token)
    if (now === undefined || keyOf(now) !== keyOf(register)) throw unknownToken()
  }

  private async admitVouched(voucher: Voucher): Promise<RegisterName> {
    const { register } = voucher
    this.refuseFast(register, undefined)
    await this.requireKnown(voucher)
    this.exchanges.count(keyOf(register))
    return register
  }

  private async requireKnown({ register }: Voucher): Promise<void> {
    if ((await this.options.isKnown?.(register)) !== true) throw unknownRegister()
  }

  private identify(token: string, known: boolean, whenItsTurn: () => void): Promise<RegisterName | undefined> {
    if (known) return this.options.identify(token)
    if (this.lookups.size >= WAITING) throw new TillsyncError('ERR_BUSY', 'Too many unknown tokens wait to be looked up', { retryable: true })
    return this.lookups.add(async () => {
      whenItsTurn()
      return await this.options.identify(token)
    })
  }

  private refuseLockedOut(counted: string | undefined, source: string | undefined): void {
    const hold = counted === undefined ? undefined : this.wrong.holdOf(counted)
    if (hold === undefined) return
    const error = new TillsyncError('ERR_LOCKED_OUT', 'Too many wrong tokens came from there', {
      retryable: true,
      hint: 'Find who sends them. Registers that were let in before are not held off by it.',
      context: { retryAfterMs: hold.retryAfterMs },
    })
    if (hold.first) this.options.onRefused({ register: undefined, source, error })
    throw error
  }

  private refuseFast(register: RegisterName, source: string | undefined): void {
    const hold = this.exchanges.holdOf(keyOf(register))
    if (hold === undefined) return
    const { exchangesPerMinute } = this.options.limits
    const error = new TillsyncError('ERR_RATE_LIMIT', `The register had more than ${exchangesPerMinute} exchanges within a minute`, {
      retryable: true,
      hint: 'Does something call synchronize() without end? Otherwise raise limits.exchangesPerMinute, or recordsPerRun at the register.',
      context: { retryAfterMs: hold.retryAfterMs, exchangesPerMinute },
    })
    if (hold.first) this.options.onRefused({ register, source, error })
    throw error
  }
}

function unknownRegister(): TillsyncError {
  return new TillsyncError('ERR_CREDENTIAL', 'No token of the register is valid', {
    hint: "central's registers.add() makes a register known, rotate() brings back a revoked one.",
  })
}

function unknownToken(): TillsyncError {
  return new TillsyncError('ERR_CREDENTIAL', 'The token is not known', {
    hint: "A register's token comes from central's registers.add() or rotate().",
  })
}

function keyOf({ location, register }: RegisterName): string {
  return JSON.stringify([location, register])
}
