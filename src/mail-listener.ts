import { asTillsyncError, type TillsyncError } from './errors.ts'
import type { Clock, Letter, Mailbox } from './ports.ts'
import { backoffMs } from './transport/backoff.ts'
import { lettersUntil } from './transport/letters.ts'
import { lineError } from './transport/line.ts'

export interface MailListenerOptions {
  readonly mailbox: Mailbox
  readonly clock: Clock
  /** Bounds of the pause after which it is listened again where the mailbox is away. */
  readonly backoff: { readonly minMs: number; readonly maxMs: number }
  /** Settles what a letter says; it is acknowledged then. */
  hear(message: Uint8Array): Promise<void>
  /** A file or message that is no letter, which the mailbox leaves alone. */
  onRefused(error: TillsyncError): void
  onFailed(error: TillsyncError): void
}

/** Receives a register's letters as long as anybody needs them. */
export class MailListener {
  private readonly options: MailListenerOptions
  private listeners = 0
  private ending = new AbortController()
  private running: Promise<void> = Promise.resolve()

  constructor(options: MailListenerOptions) {
    this.options = options
  }

  /** Whoever needs central's letters begins it, the last of them ends it. */
  begin(): void {
    if (this.listeners++ > 0) return
    this.ending = new AbortController()
    const { signal } = this.ending
    this.running = this.running.then(() => this.receive(signal))
  }

  async end(): Promise<void> {
    if (--this.listeners > 0) return
    this.ending.abort()
    await this.running
  }

  private async receive(signal: AbortSignal): Promise<void> {
    const { mailbox, clock, backoff, onRefused, onFailed } = this.options
    for (let failures = 0; !signal.aborted; ) {
      try {
        for await (const letter of lettersUntil(mailbox.receive({ signal, onRefused }), signal)) {
          failures = 0
          await this.take(letter, signal)
          if (signal.aborted) break
        }
      } catch (thrown) {
        if (signal.aborted) return
        failures++
        onFailed(lineError(thrown))
      }
      await clock.sleep(backoffMs(Math.max(1, failures), backoff, clock.random), signal).catch(() => undefined)
    }
  }

  /** A letter that says nothing sensible is gone with that: it would say no more the next time. */
  private async take(letter: Letter, signal: AbortSignal): Promise<void> {
    const isSettled = await this.options.hear(letter.message).then(
      () => true,
      (thrown) => SENSELESS.has(asTillsyncError(thrown, 'ERR_DATABASE', 'A letter could not be settled').code),
    )
    await (isSettled ? letter.acknowledge() : letter.release()).catch((thrown) => {
      if (!signal.aborted) this.options.onFailed(lineError(thrown))
    })
  }
}

/** Letters that are none of ours, or that nobody can read. */
const SENSELESS: ReadonlySet<string> = new Set(['ERR_MESSAGE', 'ERR_VERSION', 'ERR_TOO_LARGE', 'ERR_FOREIGN_REGISTER', 'ERR_FORKED'])
