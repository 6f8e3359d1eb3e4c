import { styleText } from 'node:util'
import type { Calendar } from './calendar.ts'
import { Child } from './child.ts'
import type { TillView } from './display.ts'
import type { Done, Exported, FromTill, Listed, OrderLine, Task, TillStart, ToTill } from './messages.ts'
import type { Shop } from './shops.ts'

/** A till as the director sees it: its process, and what it last said. */
export class TillActor {
  readonly name: string
  readonly shop: Shop
  /** Receipts that it found in its own database when it last started. */
  found = 0
  ready = false
  exported: Exported | undefined
  /** What it said when it had done its last task; undefined while it is at it. */
  done: Done | undefined
  /** What its operator is to be told; undefined while it looks. */
  listed: Listed | undefined
  acknowledged = true
  private readonly startMessage: Omit<TillStart, 'aheadMs'>
  private readonly calendar: Calendar
  private readonly onCrash: (error: Error) => void
  private child: Child<ToTill, FromTill> | undefined
  private progress = { sold: 0, pending: 0 }
  private applied = 0
  private online = true
  private doing = ''
  private doingUntil = 0

  constructor(name: string, shop: Shop, start: Omit<TillStart, 'aheadMs'>, calendar: Calendar, onCrash: (error: Error) => void) {
    this.name = name
    this.shop = shop
    this.startMessage = start
    this.calendar = calendar
    this.onCrash = onCrash
  }

  get file(): string {
    return this.startMessage.file
  }

  get register(): string {
    return this.startMessage.register
  }

  get view(): TillView {
    const { name, progress, applied } = this
    const total = Math.max(this.startMessage.sales.length, progress.sold)
    const state =
      (performance.now() < this.doingUntil && this.doing) ||
      (!this.online ? styleText('yellow', 'no line') : progress.sold < this.startMessage.sales.length ? 'selling' : 'all sold')
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
    this.child.send({ ...this.startMessage, aheadMs: this.calendar.aheadMs })
  }

  async kill(): Promise<void> {
    await this.child?.kill()
    this.ready = false
    this.does(styleText('red', 'killed'))
  }

  exportAll(): void {
    this.does(styleText('cyan', 'sends all again'), 2_500)
    this.child?.send({ type: 'export all' })
  }

  order(lines: readonly OrderLine[], day: string): void {
    this.child?.send({ type: 'order', lines, day })
  }

  changeOrder(line: OrderLine): void {
    this.child?.send({ type: 'change order', line })
  }

  listNotices(day: string): void {
    this.listed = undefined
    this.child?.send({ type: 'list notices', day })
  }

  acknowledge(ids: readonly number[]): void {
    this.acknowledged = false
    this.child?.send({ type: 'acknowledge', ids })
  }

  /** `done` says when head office has all that came of it. */
  perform(task: Task): void {
    this.done = undefined
    this.does(task.type === 'synchronize' ? 'synchronises' : `${task.type} …`)
    this.child?.send({ type: 'do', task })
  }

  async end(): Promise<void> {
    await this.child?.stop({ type: 'stop' })
    this.ready = false
    this.does('off')
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
      case 'exported':
        this.exported = message
        return
      case 'notices':
        this.listed = message
        return
      case 'acknowledged':
        this.acknowledged = true
        return
      case 'done':
        this.done = message
        this.does(styleText('green', 'done'))
    }
  }
}
