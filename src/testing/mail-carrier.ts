import type { Letter, Mailbox, ReceiveOptions } from '../ports.ts'

/** What becomes of a letter. */
export type Postage = 'delivered' | 'lost' | 'twice' | 'late' | 'cut'

export const POSTAGES: readonly Exclude<Postage, 'delivered'>[] = ['lost', 'twice', 'late', 'cut']

/** Stands before a register's mailbox, does with letters what it is told to, both ways, and keeps a copy of each. */
export class MailCarrier {
  /** What becomes of the next letters, each way; those beyond are delivered. */
  readonly fates: { up: Postage[]; down: Postage[] } = { up: [], down: [] }
  /** Every message that was given to it, each way. */
  readonly recorded: { readonly up: Uint8Array[]; readonly down: Uint8Array[] } = { up: [], down: [] }
  private readonly kept: { up: Uint8Array[]; down: Uint8Array[] } = { up: [], down: [] }
  private n = 0

  /** The mailbox as a register has it. */
  around(inner: () => Mailbox): Mailbox {
    const carrier = this
    return {
      get isVisited() {
        return inner().isVisited
      },
      get maxBytes() {
        return inner().maxBytes
      },
      async send(message, options) {
        carrier.recorded.up.push(Uint8Array.from(message))
        for (const [n, one] of carrier.handle('up', message).entries())
          await inner().send(one, { ...options, id: n === 0 ? options.id : carrier.nextId() })
      },
      receive: (options) => carrier.receive(inner(), options),
      close: async () => inner().close?.(),
    }
  }

  /** What was late arrives, the last first. */
  async deliverKept(to: Mailbox): Promise<void> {
    for (const message of this.kept.up.splice(0).reverse()) await to.send(message, { id: this.nextId() })
  }

  /** Central's letters of before come again with the next that is received. */
  repeat(messages: readonly Uint8Array[]): void {
    this.kept.down.push(...messages)
  }

  /** As the library makes them. */
  nextId(): string {
    return Buffer.from(`again-${String(this.n++).padStart(3, '0')}`)
      .toString('base64url')
      .slice(0, 12)
  }

  private handle(way: 'up' | 'down', message: Uint8Array): readonly Uint8Array[] {
    const fate = this.fates[way].shift() ?? 'delivered'
    if (fate === 'lost') return []
    if (fate === 'twice') return [message, message]
    if (fate === 'cut') return [message.subarray(0, message.length >> 1)]
    if (fate === 'delivered') return [message]
    this.kept[way].push(Uint8Array.from(message))
    return []
  }

  private async *receive(inner: Mailbox, options: ReceiveOptions): AsyncGenerator<Letter> {
    for await (const letter of inner.receive(options)) {
      this.recorded.down.push(Uint8Array.from(letter.message))
      const late = this.kept.down.splice(0).reverse()
      const messages = [...this.handle('down', letter.message), ...late]
      if (messages.length === 0) await letter.acknowledge()
      for (const [n, message] of messages.entries()) yield n === 0 ? { ...letter, message } : { message, acknowledge: nothing, release: nothing }
    }
  }
}

async function nothing(): Promise<void> {}
