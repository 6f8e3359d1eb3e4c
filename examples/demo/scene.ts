import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { styleText } from 'node:util'
import { Books } from './books.ts'
import { Calendar } from './calendar.ts'
import { Child } from './child.ts'
import { count, type Display } from './display.ts'
import { type Hub, openHub } from './hub.ts'
import { writeItems } from './items.ts'
import { Line } from './line.ts'
import type { Audited, Done, FromCentral, LinkName, Task, ToCentral, Way } from './messages.ts'
import type { Sale } from './sales.ts'
import { registerName, shopOf, shopsOf } from './shops.ts'
import { Stick } from './stick.ts'
import { type Story, type TillReceipt, writeStory } from './story.ts'
import { TillActor } from './till-actor.ts'

export interface ShowOptions {
  readonly folder: string
  /** What each till sells. */
  readonly shares: readonly (readonly Sale[])[]
  /** Receipts per second and till. */
  readonly rate: number
  readonly link: LinkName
  readonly seed: number
}

const READING_MS = 600

/** Where head office gets what tills say. */
const AT: Readonly<Record<LinkName, string>> = {
  http: 'answers at an HTTP server',
  nats: 'fetches the letters that lie on a NATS server',
  file: 'reads the letters that lie on a stick',
}

/** The stage: who plays, what is heard of them, and what a step of the show can do. */
export class Scene {
  readonly options: ShowOptions
  readonly story: Story
  readonly tills: TillActor[] = []
  /** Head office's database, asked directly. */
  readonly books = new Books()
  readonly calendar = new Calendar()
  readonly refusals: string[] = []
  /** The code with which a receipt went to quarantine, by its till. */
  readonly quarantined = new Map<string, string>()
  line: Line | Stick | undefined
  private stick: Stick | undefined
  private hub: Hub | undefined
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
    const { folder, link, shares, rate } = this.options
    if (link === 'file') this.stick = new Stick(folder)
    if (link === 'nats') this.hub = await openHub(shares.map((_, n) => ({ location: shopOf(n).location, register: registerName(n) })))
    const { port, connectionString, tokens } = await this.startCentral()
    await this.books.open(connectionString)
    await writeItems(this.books, shares.flat(), shopsOf(shares.length))
    const wayOf = await this.openLine(port, tokens)
    const of = (receipt: TillReceipt | undefined, till: number) => (receipt?.till === till ? receipt.receiptNo : undefined)
    for (const [n, sales] of shares.entries()) {
      const [register, shop] = [registerName(n), shopOf(n)]
      const file = join(folder, `till-${n + 1}.sqlite`)
      const mishaps = { wrongTotal: of(this.story.wrongTotal, n), leftOpen: of(this.story.leftOpen, n) }
      const start = { type: 'start', location: shop.location, register, file, way: wayOf(register), sales, rate, mishaps } as const
      this.tills.push(new TillActor(`Till ${n + 1}`, shop, start, this.calendar, this.fail))
    }
    for (const till of this.tills) till.start()
    await this.until(() => this.tills.every((till) => till.ready))
    this.tell(
      `${count(this.tills.length, 'till')} selling, ${Number(rate.toFixed(1))} receipts a second each.`,
      'Each sale goes to head office by itself, soon after its commit.',
    )
  }

  /** What lies between the tills and head office, and each till's way over it. */
  private async openLine(port: number, tokens: Readonly<Record<string, string>>): Promise<(register: string) => Way> {
    const { stick } = this
    if (stick !== undefined) {
      this.line = stick
      return (register) => stick.way([register])
    }
    const line = new Line(this.hub?.port ?? port)
    this.line = line
    const near = await line.open()
    return (register) => this.hub?.till(register, near) ?? { type: 'http', url: `http://127.0.0.1:${near}/sync`, token: tokens[register] ?? '' }
  }

  /** Ends every process that we started. */
  async close(): Promise<void> {
    await this.books.close()
    await Promise.all(this.tills.map((till) => till.end()))
    this.line?.close()
    await this.central?.stop({ type: 'stop' })
    await this.hub?.stop()
  }

  till(n: number): TillActor {
    return this.tills[Math.min(n, this.tills.length - 1)] as TillActor
  }

  tillsOf(location: string): readonly TillActor[] {
    return this.tills.filter(({ shop }) => shop.location === location)
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
    this.central?.send({ type: 'audit', locations: shopsOf(this.tills.length).map(({ location }) => location), days: [...days] })
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
      registers: this.options.shares.map((_, n) => ({ register: registerName(n), ...shopOf(n) })),
      hub: this.stick?.way(this.options.shares.map((_, n) => registerName(n))) ?? this.hub?.central,
    })
    await this.until(() => this.ready !== undefined)
    this.tell('Head office is open.', `PostgreSQL runs, and tillsync ${AT[this.options.link]}.`)
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
