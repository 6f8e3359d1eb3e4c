import { styleText } from 'node:util'
import { Child } from './child.ts'
import type { TillView } from './display.ts'
import type { Done, Exported, FromTill, Task, TillStart, ToTill } from './messages.ts'

/** A till as the director sees it: its process, and what it last said. */
export class TillActor {
  readonly name: string
  /** Receipts that it found in its own database when it last started. */
  found = 0
  ready = false
  exported: Exported | undefined
  /** What it said when it had done its last task; undefined while it is at it. */
  done: Done | undefined
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
    this.child.send(this.startMessage)
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

  /** `done` says when head office has all that came of it. */
  perform(task: Task): void {
    this.done = undefined
    this.does(task.type === 'synchronize' ? 'synchronises' : `${task.type} …`)
    this.child?.send({ type: 'do', task })
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
      case 'exported':
        this.exported = message
        return
      case 'done':
        this.done = message
        this.does(styleText('green', 'done'))
    }
  }
}
