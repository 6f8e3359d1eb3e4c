import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { styleText } from 'node:util'
import { Child } from './child.ts'
import { count, type Display } from './display.ts'
import { randomOf } from './generator.ts'
import { Line } from './line.ts'
import type { FromCentral, ToCentral } from './messages.ts'
import { type Proof, prove } from './proof.ts'
import type { Sale } from './sales.ts'
import { TillActor } from './till-actor.ts'

export interface ShowOptions {
  readonly folder: string
  /** What each till sells. */
  readonly shares: readonly (readonly Sale[])[]
  /** Receipts per second and till. */
  readonly rate: number
  readonly seed: number
}

const SHOW_MS = 100
const PATIENCE_MS = 60_000
const bold = (text: string) => styleText('bold', text)

/** The director: starts everyone, makes things go wrong while the tills sell, and asks for the proof at the end. */
export class Show {
  private readonly options: ShowOptions
  private readonly display: Display
  private readonly signal: AbortSignal
  private readonly fail: (error: Error) => void
  private readonly tills: TillActor[] = []
  private central: Child<ToCentral, FromCentral> | undefined
  private line: Line | undefined
  private connectionString = ''
  private readonly refusals: string[] = []

  constructor(options: ShowOptions, display: Display, stopping: AbortController) {
    this.options = options
    this.display = display
    this.signal = stopping.signal
    this.fail = (error) => stopping.abort(error)
  }

  async run(): Promise<Proof> {
    const { shares, rate } = this.options
    const longest = Math.max(...shares.map((share) => share.length))
    const timeout = setTimeout(() => this.fail(new Error(`Timed out. ${this.where()}`)), PATIENCE_MS + (longest / rate) * 2_000)
    const showing = setInterval(() => this.display.show(this.tills.map((till) => till.view)), SHOW_MS)
    try {
      await this.open()
      await this.outage()
      await this.crash()
      await this.reExport()
      await this.finish()
    } finally {
      clearTimeout(timeout)
      clearInterval(showing)
      this.display.end()
    }
    return this.prove()
  }

  /** Ends every process that we started. */
  async close(): Promise<void> {
    await Promise.all(this.tills.map((till) => till.end()))
    this.line?.close()
    await this.central?.stop({ type: 'stop' })
  }

  private async open(): Promise<void> {
    const { folder, shares, rate } = this.options
    const ready = await this.startCentral()
    this.connectionString = ready.connectionString
    this.line = new Line(ready.port)
    const url = `http://127.0.0.1:${await this.line.open()}/sync`
    for (const [n, sales] of shares.entries()) {
      const register = registerName(n)
      const start = {
        type: 'start',
        register,
        file: join(folder, `till-${n + 1}.sqlite`),
        url,
        token: ready.tokens[register] ?? '',
        sales,
        rate,
      } as const
      this.tills.push(new TillActor(`Till ${n + 1}`, start, this.fail))
    }
    for (const till of this.tills) till.start()
    await this.until(() => this.tills.every((till) => till.ready))
    this.tell(
      bold(`${count(this.tills.length, 'till')} selling, ${Number(rate.toFixed(1))} receipts a second each.`),
      'Each sale goes to head office by itself, soon after its commit.',
    )
  }

  private async startCentral(): Promise<FromCentral & { type: 'ready' }> {
    let ready: (FromCentral & { type: 'ready' }) | undefined
    const onMessage = (message: FromCentral) => {
      if (message.type === 'ready') ready = message
      if (message.type === 'refused') this.refusals.push(message.why)
      if (message.type === 'applied') this.tills.find((till) => till.register === message.register)?.addApplied(message.entries)
    }
    this.central = new Child('Head office', new URL('./central.ts', import.meta.url), onMessage, this.fail)
    this.central.send({ type: 'start', folder: this.options.folder, registers: this.options.shares.map((_, n) => registerName(n)) })
    await this.until(() => ready !== undefined)
    this.tell(bold('Head office is open.'), 'PostgreSQL runs, and tillsync answers at an HTTP server.')
    return ready as unknown as FromCentral & { type: 'ready' }
  }

  private async outage(): Promise<void> {
    await this.until(() => this.sold >= 0.15)
    const before = this.receipts
    const began = performance.now()
    this.line?.cut()
    this.tell(bold('The line to head office is cut.'), 'The tills go on selling; what they sell waits in their own databases.')
    await this.until(() => this.sold >= 0.4 && performance.now() - began > 1_500)
    const waiting = this.tills.reduce((total, till) => total + till.view.pending, 0)
    this.line?.mend()
    const seconds = ((performance.now() - began) / 1_000).toFixed(1)
    this.tell(
      bold(`The line is back after ${seconds} s.`),
      `${count(this.receipts - before, 'receipt')} sold without it; ${count(waiting, 'entry')} pending.`,
    )
    await this.until(() => this.tills.every((till) => till.caughtUp))
    this.tell('Head office has caught up.', 'Nobody had to press a button.')
  }

  private async crash(): Promise<void> {
    const till = this.tills[1] ?? (this.tills[0] as TillActor)
    await this.until(() => this.sold >= 0.55)
    await sleep(randomOf(this.options.seed)() * 250)
    const middle = till.view.sold < till.view.total ? ' in the middle of selling' : ''
    await till.kill()
    this.tell(bold(`${till.name} is killed (SIGKILL)${middle}.`), `It could finish nothing.${this.tills.length > 1 ? ' The others sell on.' : ''}`)
    await sleep(2_000)
    till.start()
    await this.until(() => till.ready)
    const next = till.found < till.view.total ? `, and sells on with number ${till.found + 1}` : ''
    this.tell(bold(`${till.name} is back.`), `It finds ${count(till.found, 'committed receipt')} in its own database${next}.`)
  }

  private async reExport(): Promise<void> {
    const till = this.tills[2] ?? (this.tills[0] as TillActor)
    await this.until(() => this.sold >= 0.75)
    till.reExport()
    await this.until(() => till.exported !== undefined)
    const { documents = 0, entries = 0 } = till.exported ?? {}
    this.tell(
      bold(`${till.name} sends everything again:`),
      `${count(documents, 'receipt')}, ${count(entries, 'entry')}. Head office must book none of them twice.`,
    )
  }

  private async finish(): Promise<void> {
    await this.until(() => this.tills.every((till) => till.view.sold === till.view.total))
    this.tell('All is sold.', 'Each till synchronises once more, then head office is asked what it has.')
    for (const till of this.tills) till.finish()
    await this.until(() => this.tills.every((till) => till.entries !== undefined))
    this.display.show(this.tills.map((till) => till.view))
    if (this.refusals.length > 0)
      this.tell(`Head office refused ${count(this.refusals.length, 'message')}; the tills sent them again.`, this.refusals.at(-1))
  }

  private prove(): Promise<Proof> {
    const sold = new Map(this.options.shares.map((share, n) => [registerName(n), share]))
    const sealed = this.tills.reduce((total, till) => total + (till.entries ?? 0), 0)
    return prove(this.connectionString, sold, sealed)
  }

  private get receipts(): number {
    return this.tills.reduce((total, till) => total + till.view.sold, 0)
  }

  /** The part of all receipts that is sold. */
  private get sold(): number {
    return this.receipts / this.tills.reduce((total, till) => total + till.view.total, 0)
  }

  private where(): string {
    return this.tills.map(({ view }) => `${view.name}: ${view.sold} of ${view.total} receipts sold, ${view.pending} entries pending`).join('; ')
  }

  private tell(what: string, meaning?: string): void {
    this.display.tell(what, meaning)
  }

  private async until(condition: () => boolean): Promise<void> {
    for (;;) {
      this.signal.throwIfAborted()
      if (condition()) return
      await sleep(20)
    }
  }
}

export function registerName(n: number): string {
  return `POS${n + 1}`
}
