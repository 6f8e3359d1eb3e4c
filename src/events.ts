import { asTillsyncError, TillsyncError } from './errors.ts'
import type { Notice, Point, RegisterName, UnappliedDocument } from './model.ts'
import { bad } from './options.ts'
import type { QuarantinedDocument, ReleasedDocument } from './ports.ts'

/** What a register tells its host. */
export interface RegisterEvents {
  /** Documents were sealed. */
  sealed: { readonly documents: number; readonly entries: number; readonly through: number }
  /** Documents of central's were applied, of one root table. */
  applied: { readonly table: string; readonly documents: number; readonly removed: number }
  /**
   * Documents of central's could not be applied and wait from now on, see `status().unapplied`; everything else went on. At most 50 are named. They are tried again by themselves,
   * and central is told.
   */
  unapplied: { readonly documents: readonly UnappliedDocument[] }
  /** An exchange with central went well. */
  exchanged: { readonly sent: number }
  /** What the operator is to be told: followed columns changed, or records came or went. They stay in `notices` until they are acknowledged. */
  notice: { readonly notices: readonly Notice[] }
  /**
   * This database, or central's, was restored from a backup: they are the same up to the entry `common`, and from there on this one goes on in a new
   * epoch. With `anew`, what central lacks was pruned here, and all that is published is sealed again.
   */
  forked: { readonly common: Point; readonly anew: boolean }
  /** The line is gone; said once, until `online`. */
  offline: { readonly error: TillsyncError }
  /** The line is back. */
  online: Record<string, never>
  /**
   * The host's schema has changed: `mended` roots had lost triggers, so that a reseal looks for what went unseen; roots with
   * `problems` can't be published, or written, as they stand, see `status().problems`.
   */
  schema: { readonly mended: readonly string[]; readonly problems: readonly { readonly table: string; readonly error: TillsyncError }[] }
  /** A message that came to `fetch` was refused; `source` is where it came from, as far as the host says. */
  refused: { readonly source: string | undefined; readonly error: TillsyncError }
  /** Something that goes on in the background failed; it is tried again. Also in `status().lastError`. */
  failed: { readonly error: TillsyncError }
}

/** What central tells its host. */
export interface CentralEvents {
  /** A batch was applied and committed. */
  applied: { readonly register: RegisterName; readonly documents: number; readonly entries: number; readonly through: number }
  /**
   * A register, or central itself, was restored from a backup: they are the same up to entry `common`, and the register goes on in a new epoch. `orphaned` documents are
   * here and no more there, see `orphans`; `wanted` ones are asked for once more.
   */
  forked: { readonly register: RegisterName; readonly epoch: string; readonly common: number; readonly orphaned: number; readonly wanted: number }
  /** Two copies of a register's database speak: nothing is taken from either until `registers.keep()` says which one goes on. */
  cloned: { readonly register: RegisterName }
  /**
   * A message was refused, by central or by a pull register, or a batch could not be applied; the register keeps its entries. Who is held off (ERR_LOCKED_OUT, ERR_RATE_LIMIT) is
   * said once, until it ends. `register` is undefined where no token says who it is, `source` where the host does not.
   */
  refused: { readonly register: RegisterName | undefined; readonly source: string | undefined; readonly error: TillsyncError }
  /** Documents could not be applied and wait in quarantine, see `quarantine`; everything else went on. Also where a newer version of one that waited could not. */
  quarantined: { readonly register: RegisterName; readonly documents: readonly QuarantinedDocument[] }
  /** Documents that waited in quarantine were applied. */
  released: { readonly register: RegisterName; readonly documents: readonly ReleasedDocument[] }
  /** Documents that were published for a register could not be applied there and wait; said when that is news. The till's schema refuses them, or they refer to what it does not have. */
  unapplied: { readonly register: RegisterName; readonly documents: readonly UnappliedDocument[] }
  /** The schema of what central publishes has changed; as at a register. */
  schema: { readonly mended: readonly string[]; readonly problems: readonly { readonly table: string; readonly error: TillsyncError }[] }
  /** A pull register does not answer; said once, until `online`. It is tried again, with growing pauses. */
  offline: { readonly register: RegisterName; readonly error: TillsyncError }
  /** It answers again. */
  online: { readonly register: RegisterName }
  /** Something in the background failed. */
  failed: { readonly error: TillsyncError }
}

/** The names, for hosts without types: one that is misspelt would never be heard. */
type Names<Map> = Readonly<Record<keyof Map, true>>

export const REGISTER_EVENTS: Names<RegisterEvents> = {
  sealed: true,
  applied: true,
  unapplied: true,
  exchanged: true,
  notice: true,
  forked: true,
  offline: true,
  online: true,
  schema: true,
  refused: true,
  failed: true,
}

export const CENTRAL_EVENTS: Names<CentralEvents> = {
  applied: true,
  forked: true,
  cloned: true,
  refused: true,
  quarantined: true,
  released: true,
  unapplied: true,
  schema: true,
  offline: true,
  online: true,
  failed: true,
}

type Listener<E> = (event: E) => void

/** Listeners by event. A listener that throws harms nobody: what it threw is reported as `failed`. */
export class Events<Map extends { failed: { readonly error: TillsyncError } }> {
  private readonly listeners = new globalThis.Map<keyof Map, Set<Listener<never>>>()
  private readonly names: Names<Map>

  constructor(names: Names<Map>) {
    this.names = names
  }

  /**
   * Returns a function that ends it.
   *
   * @throws ERR_OPTION
   */
  on<K extends keyof Map>(event: K, listener: Listener<Map[K]>): () => void {
    if (typeof event !== 'string' || !Object.hasOwn(this.names, event)) {
      throw new TillsyncError('ERR_OPTION', `There is no event \`${typeof event === 'string' ? event : typeof event}\``, {
        hint: `There are: ${Object.keys(this.names).join(', ')}.`,
        context: { option: 'event' },
      })
    }
    if (typeof listener !== 'function') throw bad('listener', 'a function', listener)
    const listeners = this.listeners.get(event) ?? new Set()
    this.listeners.set(event, listeners.add(listener as Listener<never>))
    return () => void listeners.delete(listener as Listener<never>)
  }

  emit<K extends keyof Map>(event: K, detail: Map[K]): void {
    for (const listener of this.listeners.get(event) ?? []) this.call(`A listener of '${String(event)}'`, listener as Listener<Map[K]>, detail, event)
  }

  /** Tells a function that the host gave with a call. */
  tell<E>(listener: Listener<E>, detail: E): void {
    this.call('The function that was given as `onProgress`', listener, detail)
  }

  private call<E>(what: string, listener: Listener<E>, detail: E, event?: keyof Map): void {
    const failed = (thrown: unknown): void => {
      const error = asTillsyncError(thrown, 'ERR_LISTENER', `${what} threw`)
      if (event === 'failed') process.emitWarning(error)
      else this.emit('failed', { error } as Map['failed'])
    }
    try {
      // It may be async: an unhandled rejection would end the host's process.
      Promise.resolve<unknown>(listener(detail)).catch(failed)
    } catch (thrown) {
      failed(thrown)
    }
  }
}
