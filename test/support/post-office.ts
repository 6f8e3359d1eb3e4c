import { TillsyncError } from '../../src/errors.ts'
import type { RegisterName } from '../../src/model.ts'
import type { CentralMailbox, Letter, Mailbox, ReceiveOptions } from '../../src/ports.ts'

/** What happens to letters on their way; each answers with those that go on, in the place of the one that came. */
export type Handling = (message: Uint8Array, letter: { readonly to: string; readonly n: number }) => readonly Uint8Array[]

interface Lying {
  readonly message: Uint8Array
  open: boolean
}

/** Boxes of letters in this process, without a carrier of its own: whatever a carrier may do to letters is done by `handle`. */
export class PostOffice {
  /** What happens to a letter before it lies in the box; default: nothing. */
  handle: Handling = (message) => [message]
  /** Whether anybody comes through to it. */
  away = false
  /** How many letters a box holds. */
  room = Number.POSITIVE_INFINITY
  /** All that was ever sent, by box. */
  readonly sent = new Map<string, Uint8Array[]>()
  private readonly boxes = new Map<string, Lying[]>()
  private readonly waiting = new Set<() => void>()
  private n = 0

  /** A register's. */
  mailbox(name: RegisterName): Mailbox {
    const own = nameOf(name)
    return {
      send: async (message) => this.put(`up ${own}`, message),
      receive: (options) => this.take(options, () => [`down ${own}`]),
    }
  }

  central(): CentralMailbox {
    const office = this
    return {
      send: async (to, message) => this.put(`down ${nameOf(to)}`, message),
      async *receive(options) {
        for await (const letter of office.take(options, () => [...office.boxes.keys()].filter((box) => box.startsWith('up ')))) {
          const [location, register] = letter.box.slice(3).split('/') as [string, string]
          yield { ...letter, from: { location, register } }
        }
      },
    }
  }

  /** How many letters lie there, of one register or of all. */
  lying(direction: 'up' | 'down', name?: RegisterName): number {
    const box = `${direction} ${name ? nameOf(name) : ''}`
    return [...this.boxes].filter(([of]) => of.startsWith(box)).reduce((sum, [, letters]) => sum + letters.length, 0)
  }

  /** Takes all out of a box, as if it were lost, or to be put back later. */
  empty(direction: 'up' | 'down', name: RegisterName): Uint8Array[] {
    const box = this.boxOf(`${direction} ${nameOf(name)}`)
    return box.splice(0).map(({ message }) => message)
  }

  put(box: string, message: Uint8Array): void {
    if (this.away) throw away()
    if (this.boxOf(box).length >= this.room) throw new TillsyncError('ERR_MAILBOX_FULL', 'The box is full', { retryable: true })
    this.sent.set(box, [...(this.sent.get(box) ?? []), message])
    for (const one of this.handle(message, { to: box, n: this.n++ })) this.boxOf(box).push({ message: Uint8Array.from(one), open: false })
    this.wake()
  }

  /** Whoever waits for letters looks again. */
  wake(): void {
    for (const waiting of this.waiting) waiting()
  }

  private boxOf(box: string): Lying[] {
    const letters = this.boxes.get(box) ?? []
    this.boxes.set(box, letters)
    return letters
  }

  private async *take({ signal }: ReceiveOptions, boxes: () => readonly string[]): AsyncGenerator<Letter & { readonly box: string }> {
    const given = new Set<Lying>()
    try {
      yield* this.giveOut(signal, boxes, given)
    } finally {
      // Whoever comes next gets what was not acknowledged.
      for (const lying of given) lying.open = false
    }
  }

  private async *giveOut(signal: AbortSignal, boxes: () => readonly string[], given: Set<Lying>): AsyncGenerator<Letter & { readonly box: string }> {
    while (!signal.aborted) {
      if (this.away) throw away()
      const box = boxes().find((box) => this.boxOf(box).some(({ open }) => !open))
      if (box === undefined) {
        await this.news(signal)
        continue
      }
      const lying = this.boxOf(box).find(({ open }) => !open) as Lying
      lying.open = true
      given.add(lying)
      yield {
        box,
        message: lying.message,
        acknowledge: async () => {
          const letters = this.boxOf(box)
          const at = letters.indexOf(lying)
          if (at >= 0) letters.splice(at, 1)
        },
        release: async () => {
          setTimeout(() => {
            lying.open = false
            this.wake()
          }, 20)
        },
      }
    }
  }

  private async news(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.waiting.add(resolve)
    signal.addEventListener('abort', () => resolve(), { once: true })
    // As an open connection, it keeps the process alive.
    const open = setInterval(() => undefined, 60_000)
    await promise
    clearInterval(open)
    this.waiting.delete(resolve)
  }
}

function away(): TillsyncError {
  return new TillsyncError('ERR_LINK', 'Nobody comes through', { retryable: true })
}

function nameOf({ location, register }: RegisterName): string {
  return `${location}/${register}`
}
