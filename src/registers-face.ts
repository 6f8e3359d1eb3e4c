import type { RotateOptions } from './central-options.ts'
import type { Attributes, RegisterName } from './model.ts'
import type { PullTarget } from './pull-book.ts'

/** A register as central knows it. All times are ISO 8601, UTC. */
export interface ListedRegister extends RegisterName {
  readonly addedAt: string
  /** Since when no token of it is valid; undefined while one is. */
  readonly revokedAt: string | undefined
  /** When its newest token first came with a request; undefined before, e.g. while a rotated one has not reached it. */
  readonly tokenUsedAt: string | undefined
  /** Until when its former token is valid too; undefined where the newest is the only one. */
  readonly overlapEndsAt: string | undefined
  /** When it last spoke to central, be it without a batch; to five minutes where that was to another process. Undefined before the first time. */
  readonly lastContact: string | undefined
  /** The version of tillsync there, as it last said; undefined before, and of one that does not say. */
  readonly version: string | undefined
  /** When its last batch was applied; undefined before the first. */
  readonly lastBatch: string | undefined
  /** The epoch of its stream; undefined before the first batch. */
  readonly epoch: string | undefined
  /** The last entry that was applied. */
  readonly entryNo: number
  /** How many entries it had behind that one for central, as it said with its last batch. */
  readonly pending: number
  /** Where two copies of its database speak: by the epochs of both, and the last entry of each that was applied. Undefined otherwise. */
  readonly copies: readonly { readonly epoch: string; readonly entryNo: number }[] | undefined
  /** How many of its documents wait in quarantine. */
  readonly quarantined: number
  /** Where central pulls it; undefined where the register pushes. */
  readonly pull: { readonly url: string } | undefined
  /** What central's filters may ask of it. */
  readonly attributes: Attributes
}

/** A register that is to be added. */
export interface NewRegister extends RegisterName {
  /** Where its `fetch` is mounted: central pulls it there. Without it the register pushes. */
  readonly pull?: PullTarget | undefined
  /** What the filters of `publish` may ask of it beside its name, such as `{ priceGroup: 'A' }`: text, numbers, booleans or null. */
  readonly attributes?: Attributes | undefined
}

/** What is changed of a register; what is not named stays. */
export interface RegisterChanges {
  /** Where it is pulled from now on; undefined: not any more. */
  readonly pull?: PullTarget | undefined
  /** All of them: what is not named is gone. Where a filter makes something else of them, it gets the difference. */
  readonly attributes?: Attributes
}

/** Central's book of registers and their credentials. */
export interface Registers {
  /**
   * Makes a register known. With `pull` central starts its exchanges. Its token is shown here once and stored nowhere; only its hash is.
   *
   * @throws ERR_REGISTER where it is known already, ERR_OPTION, ERR_FILTER where a filter of `publish` can't be asked for it
   */
  add(register: NewRegister): Promise<{ readonly token: string }>
  /**
   * Where it is pulled from now on, in every process; and its attributes. What it has sent goes on from where central stands, whichever side
   * starts the exchanges. All or nothing.
   *
   * @throws ERR_REGISTER where it is not known, ERR_OPTION, ERR_FILTER where a filter of `publish` can't be asked for it: nothing has changed
   */
  change(register: RegisterName, changes: RegisterChanges): Promise<void>
  /**
   * Gives a register, also a revoked one, a new token, shown here once. The former one stays valid for `overlapMs`, in every
   * process at once; that is the newest that the register has used, so a rotated token that was lost on its way can be replaced by
   * rotating again. At most two are valid at a time.
   *
   * @throws ERR_REGISTER where it is not known, ERR_OPTION
   */
  rotate(register: RegisterName, options?: RotateOptions): Promise<{ readonly token: string }>
  /**
   * No token of it is valid any more, in every process at once; an exchange that was let in before goes on to its end. What it sent
   * stays. Idempotent.
   *
   * @throws ERR_REGISTER where it is not known, ERR_OPTION
   */
  revoke(register: RegisterName): Promise<void>
  /**
   * The register's database was set up anew, without anything of the former one: what it sends is taken from its first entry on. What was posted stays; a document that
   * is the same as a former one (equal, or with equal `identity`) goes on as that, any other is a new one under whatever key.
   *
   * @throws ERR_REGISTER where it is not known, ERR_OPTION
   */
  reset(register: RegisterName): Promise<void>
  /**
   * Of two copies of a register's database that both speak, this one goes on (see `list`, and `status().head` at the till); the other is refused from now on with
   * ERR_CLONED, and what it has sent beyond the common history is orphaned. A till that was restored to a later moment than the time before looks like a second copy too.
   *
   * @throws ERR_REGISTER where it is not known, or was never met in this epoch, ERR_OPTION
   */
  keep(register: RegisterName, copy: { readonly epoch: string }): Promise<void>
  /** By location and register. */
  list(): Promise<readonly ListedRegister[]>
}
