import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { styleText } from 'node:util'
import { Books } from './books.ts'
import { Child } from './child.ts'
import { count, type Display } from './display.ts'
import { assortmentOf, writeItems } from './items.ts'
import { Line } from './line.ts'
import type { Audited, Done, FromCentral, Task, ToCentral } from './messages.ts'
import type { Sale } from './sales.ts'
import { type Story, type TillReceipt, writeStory } from './story.ts'
import { TillActor } from './till-actor.ts'

export interface ShowOptions {
  readonly folder: string
  /** What each till sells. */
  readonly shares: readonly (readonly Sale[])[]
  /** Receipts per second and till. */
  readonly rate: number
  readonly seed: number
}

const READING_MS = 600

/** The stage: who plays, what is heard of them, and what a step of the show can do. */
export class Scene {
  readonly options: ShowOptions
  readonly story: Story
  readonly tills: TillActor[] = []
  /** Head office's database, asked directly. */
  readonly books = new Books()
  readonly refusals: string[] = []
  /** The code with which a receipt went to quarantine, by its till. */
  readonly quarantined = new Map<string, string>()
  line: Line | undefined
  private readonly display: Display
  private readonly signal: AbortSignal
  private readonly fail: (error: Error) => void
  private central: Child<ToCentral, FromCentral> | undefined
  private ready: (FromCentral & { type: 'ready' }) | undefined
  private audited: Audited | undefined

  constructor(options: ShowOptions, display: Display, stopping: AbortController) {
    this.options = options
    this.story = writeStory(options.shares)
    this.display = display
    this.signal = stopping.signal
    this.fail = (error) => stopping.abort(error)
  }

  async open(): Promise<void> {
    const { port, connectionString, tokens } = await this.startCentral()
    await this.books.open(connectionString)
    await writeItems(this.books, this.options.shares.flat())
    this.line = new Line(port)
    const url = `http://127.0.0.1:${await this.line.open()}/sync`
    const { folder, shares, rate } = this.options
    const of = (receipt: TillReceipt | undefined, till: number) => (receipt?.till === till ? receipt.receiptNo : undefined)
    for (const [n, sales] of shares.entries()) {
      const register = registerName(n)
      const file = join(folder, `till-${n + 1}.sqlite`)
      const mishaps = { wrongTotal: of(this.story.wrongTotal, n), leftOpen: of(this.story.leftOpen, n) }
      const start = { type: 'start', register, file, url, token: tokens[register] ?? '', sales, rate, mishaps } as const
      this.tills.push(new TillActor(`Till ${n + 1}`, start, this.fail))
    }
    for (const till of this.tills) till.start()
    await this.until(() => this.tills.every((till) => till.ready))
    this.tell(
      `${count(this.tills.length, 'till')} selling, ${Number(rate.toFixed(1))} receipts a second each.`,
      'Each sale goes to head office by itself, soon after its commit.',
    )
  }

  /** Ends every process that we started. */
  async close(): Promise<void> {
    await this.books.close()
    await Promise.all(this.tills.map((till) => till.end()))
    this.line?.close()
    await this.central?.stop({ type: 'stop' })
  }

  till(n: number): TillActor {
    return this.tills[Math.min(n, this.tills.length - 1)] as TillActor
  }

  /** Has a till do something, and waits until head office has all that came of it. */
  async perform(till: TillActor, task: Task): Promise<Done> {
    till.perform(task)
    await this.until(() => till.done !== undefined)
    return till.done as unknown as Done
  }

  /** What the library itself says of its books. */
  async audit(): Promise<Audited> {
    this.audited = undefined
    const days = new Set(this.options.shares.flat().map(({ soldAt }) => soldAt.slice(0, 10)))
    this.central?.send({ type: 'audit', days: [...days] })
    await this.until(() => this.audited !== undefined)
    return this.audited as unknown as Audited
  }

  get receipts(): number {
    return this.tills.reduce((total, till) => total + till.view.sold, 0)
  }

  /** The part of all receipts that is sold. */
  get sold(): number {
    return this.receipts / this.tills.reduce((total, till) => total + till.view.total, 0)
  }

  where(): string {
    return this.tills.map(({ view }) => `${view.name}: ${view.sold} of ${view.total} receipts sold, ${view.pending} entries pending`).join('; ')
  }

  show(): void {
    this.display.show(this.tills.map((till) => till.view))
  }

  /** What happens, and what that means; with time to read it. */
  async say(what: string, meaning: string): Promise<void> {
    this.tell(what, meaning)
    await sleep(READING_MS)
  }

  /** The same while the tills sell. */
  tell(what: string, meaning?: string): void {
    this.display.tell(styleText('bold', what), meaning)
  }

  async until(condition: () => boolean | Promise<boolean>): Promise<void> {
    for (;;) {
      this.signal.throwIfAborted()
      if (await condition()) return
      await sleep(20)
    }
  }

  private async startCentral(): Promise<FromCentral & { type: 'ready' }> {
    this.central = new Child('Head office', new URL('./central.ts', import.meta.url), (message: FromCentral) => this.hear(message), this.fail)
    this.central.send({
      type: 'start',
      folder: this.options.folder,
      registers: this.options.shares.map((_, n) => ({ register: registerName(n), assortment: assortmentOf(n) })),
    })
    await this.until(() => this.ready !== undefined)
    this.tell('Head office is open.', 'PostgreSQL runs, and tillsync answers at an HTTP server.')
    return this.ready as unknown as FromCentral & { type: 'ready' }
  }

  private hear(message: FromCentral): void {
    switch (message.type) {
      case 'ready':
        this.ready = message
        return
      case 'applied':
        this.tills.find((till) => till.register === message.register)?.addApplied(message.entries)
        return
      case 'refused':
        this.refusals.push(message.why)
        return
      case 'quarantined':
        this.quarantined.set(message.register, message.code)
        return
      case 'audited':
        this.audited = message
    }
  }
}

export function registerName(n: number): string {
  return `POS${n + 1}`
}
