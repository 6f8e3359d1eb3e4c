import { styleText } from 'node:util'
import { Child } from './child.ts'
import type { TillView } from './display.ts'
import type { FromTill, TillStart, ToTill } from './messages.ts'

/** A till as the director sees it: its process, and what it last said. */
export class TillActor {
  readonly name: string
  /** Receipts that it found in its own database when it last started. */
  found = 0
  ready = false
  exported: (FromTill & { type: 're-exported' }) | undefined
  /** The last entry of its stream, when all of them have arrived. */
  entries: number | undefined
  private readonly startMessage: TillStart
  private readonly onCrash: (error: Error) => void
  private child: Child<ToTill, FromTill> | undefined
  private progress = { sold: 0, pending: 0 }
  private applied = 0
  private online = true
  private doing = ''
  private doingUntil = 0

  constructor(name: string, start: TillStart, onCrash: (error: Error) => void) {
    this.name = name
    this.startMessage = start
    this.onCrash = onCrash
  }

  get register(): string {
    return this.startMessage.register
  }

  get view(): TillView {
    const { name, progress, applied } = this
    const total = this.startMessage.sales.length
    const state =
      (performance.now() < this.doingUntil && this.doing) ||
      (!this.online ? styleText('yellow', 'no line') : progress.sold < total ? 'selling' : 'all sold')
    return { name, total, ...progress, applied, doing: state }
  }

  /** Whether head office answers again and next to nothing waits. */
  get caughtUp(): boolean {
    return this.online && this.progress.pending < 50
  }

  start(): void {
    this.does('starting')
    this.online = true
    const module = new URL('./till.ts', import.meta.url)
    this.child = new Child(this.name, module, (message: FromTill) => this.hear(message), this.onCrash)
    this.child.send(this.startMessage)
  }

  async kill(): Promise<void> {
    await this.child?.kill()
    this.ready = false
    this.does(styleText('red', 'killed'))
  }

  reExport(): void {
    this.does(styleText('cyan', 'sends all again'), 2_500)
    this.child?.send({ type: 're-export' })
  }

  finish(): void {
    this.does('synchronises')
    this.child?.send({ type: 'finish' })
  }

  async end(): Promise<void> {
    await this.child?.stop({ type: 'stop' })
  }

  addApplied(entries: number): void {
    this.applied += entries
  }

  private does(doing: string, forMs = Number.POSITIVE_INFINITY): void {
    this.doing = doing
    this.doingUntil = performance.now() + forMs
  }

  private hear(message: FromTill): void {
    switch (message.type) {
      case 'ready':
        this.found = message.found
        this.ready = true
        this.does('', 0)
        return
      case 'progress':
        this.progress = { sold: message.sold, pending: message.pending }
        return
      case 'line':
        this.online = message.up
        return
      case 're-exported':
        this.exported = message
        return
      case 'finished':
        this.entries = message.entries
        this.does(styleText('green', 'done'))
    }
  }
}
