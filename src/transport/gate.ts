import PQueue from 'p-queue'
import QuickLRU from 'quick-lru'
import type { Limits } from '../central-options.ts'
import { unknownRegister, unknownToken } from '../credential-errors.ts'
import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { Clock, Proof } from '../ports.ts'
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
  /** Whether the proof of who is let in is looked at with what he asks for: then who was known a moment ago need not be looked up before. */
  readonly isProvenLater?: boolean
  /** Told once of each that is held off. */
  onRefused(refusal: Refusal): void
}

/** Who is let in. */
export interface Admission {
  readonly register: RegisterName
  readonly proof: Proof
  /** By what he is remembered. */
  readonly name: string
  readonly token: string | undefined
  /** By what his token counts where it turns out to be a wrong one; undefined where he has shown none. */
  readonly counted: string | undefined
}

interface Known {
  readonly register: RegisterName
  /** In ticks. */
  readonly provenAt: number
}

const WINDOW_MS = 60_000
/** For so long who was proven is let in as he is remembered; he can do no more than send what is refused. */
const REMEMBERED_MS = 120_000
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
  /** Who came with which token lately, by its hash, or without one: they are spared what strangers must bear. What they ask for is done only with a proof that holds then. */
  private readonly known: QuickLRU<string, Known>
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
  async admit(credential: Credential, source: string | undefined): Promise<Admission> {
    if (credential instanceof Voucher) return this.admitVouched(credential)
    const token = bearerToken(credential)
    const tokenHash = token === undefined ? undefined : hashToken(token)
    const name = tokenHash?.toString('base64')
    const counted = source === undefined ? name : sourceKey(source)
    const known = name === undefined ? undefined : this.known.get(name)
    if (known !== undefined) this.refuseFast(known.register, source)
    else this.refuseLockedOut(counted, source)
    const isRemembered = known !== undefined && this.isFresh(known)
    const register = isRemembered
      ? known.register
      : token === undefined
        ? undefined
        : await this.identify(token, known !== undefined, () => this.refuseLockedOut(counted, source))
    if (token === undefined || name === undefined || register === undefined) {
      this.forget(name, counted)
      throw unknownToken()
    }
    return this.admitted({ register, proof: { tokenHash }, name, token, counted }, isRemembered, source)
  }

  private async admitVouched({ register }: Voucher): Promise<Admission> {
    this.refuseFast(register, undefined)
    const name = keyOf(register)
    const known = this.known.get(name)
    const isRemembered = known !== undefined && this.isFresh(known)
    if (!isRemembered && (await this.options.isKnown?.(register)) !== true) throw unknownRegister()
    return this.admitted({ register, proof: { tokenHash: undefined }, name, token: undefined, counted: undefined }, isRemembered, undefined)
  }

  private admitted(admission: Admission, isRemembered: boolean, source: string | undefined): Admission {
    const { register } = admission
    if (!isRemembered) this.proven(admission)
    this.refuseFast(register, source)
    this.exchanges.count(keyOf(register))
    return admission
  }

  private isFresh({ provenAt }: Known): boolean {
    return this.options.isProvenLater === true && this.options.clock.ticks() - provenAt < REMEMBERED_MS
  }

  /** What was asked for was done with the proof. */
  proven({ name, register }: Admission): void {
    this.known.set(name, { register, provenAt: this.options.clock.ticks() })
  }

  /** Whether who was let in is so still where his proof does not hold: a backup of central may have taken back that his token was ever used, which looking it up notes. */
  async isStill({ register, token }: Admission): Promise<boolean> {
    const { identify, isKnown } = this.options
    return token === undefined ? (await isKnown?.(register)) === true : (await identify(token)) !== undefined
  }

  /** What was asked for was refused. Whose proof does not hold is a stranger from now on; any other one, be it that nobody has looked at his, is looked up first the next time. */
  refused({ name, register, counted }: Admission, { code }: TillsyncError): void {
    if (code === 'ERR_CREDENTIAL') this.forget(name, counted)
    else this.known.set(name, { register, provenAt: Number.NEGATIVE_INFINITY })
  }

  private forget(name: string | undefined, counted: string | undefined): void {
    if (name !== undefined) this.known.delete(name)
    if (counted !== undefined) this.wrong.count(counted)
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

function keyOf({ location, register }: RegisterName): string {
  return JSON.stringify([location, register])
}
