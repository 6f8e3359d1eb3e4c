import { systemClock } from '../../src/clock.ts'
import type { CentralMailbox, Clock, Mailbox, RegisterDatabase } from '../../src/ports.ts'

/** What a replica does: whether it waits, listens or asks its database just now. */
export class Observed {
  /** Transactions, listeners and waits under way, by what they are. */
  private readonly under = new Map<string, number>()
  /** Transactions and listeners that were ever begun. */
  begun = 0

  readonly clock: Clock = {
    now: () => systemClock.now(),
    ticks: () => systemClock.ticks(),
    random: () => systemClock.random(),
    sleep: (ms, signal) => this.during('a wait', () => systemClock.sleep(ms, signal)),
  }

  get underWay(): readonly string[] {
    return [...this.under].flatMap(([what, times]) => (times > 0 ? [what] : []))
  }

  database<T extends object>(database: T): T {
    const inner = database as unknown as RegisterDatabase
    const own: Partial<RegisterDatabase> = {
      read: (work, options) => this.during('a read', () => inner.read(work, options)),
      write: (work, options) => this.during('a write', () => inner.write(work, options)),
      watch: (listener) => {
        const end = inner.watch(listener)
        this.count('a watch', 1)
        return () => {
          this.count('a watch', -1)
          end()
        }
      },
    }
    return new Proxy(database, {
      get(target, name) {
        const value = Reflect.get(own, name) ?? Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  }

  /** Their letters are waited for as long as somebody receives. */
  mailbox<T extends Mailbox | CentralMailbox>(mailbox: T): T {
    const observed = this
    const receive = async function* (options: Parameters<T['receive']>[0]) {
      observed.count('a mailbox', 1)
      try {
        yield* mailbox.receive(options)
      } finally {
        observed.count('a mailbox', -1)
      }
    }
    return { ...mailbox, receive } as T
  }

  async during<R>(what: string, work: () => Promise<R>): Promise<R> {
    this.count(what, 1)
    try {
      return await work()
    } finally {
      this.count(what, -1)
    }
  }

  private count(what: string, by: number): void {
    if (by > 0 && what !== 'a wait') this.begun++
    this.under.set(what, (this.under.get(what) ?? 0) + by)
  }
}
