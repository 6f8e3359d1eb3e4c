import type { Register, RegisterName } from '../../../src/index.ts'
import type { CapturingDatabase, Link, Mailbox } from '../../../src/ports.ts'
import { RegisterReplica } from '../../../src/register.ts'
import type { WallClock } from './clock.ts'
import type { Host } from './hosts.ts'
import { type Line, type Sale, salesOf } from './sale.ts'
import { MIRRORS, publishRules } from './tables.ts'

export interface MachineOptions {
  readonly name: RegisterName
  readonly clock: WallClock
  readonly link: Link
  /** With what central pulls it, instead of the link. */
  readonly token?: string | undefined
  /** Instead of the link. */
  readonly mailbox?: Mailbox | undefined
  readonly identity: boolean
  /** Whether it gets what central publishes. */
  readonly subscribes?: boolean | undefined
  readonly recordsPerRun: number
  readonly bytesPerRun?: number | undefined
  /** After how long without a word central does not count any more. */
  readonly forgetAfterMs?: number | undefined
}

/** How long a process lives: it ends before its transaction of a number. */
interface Life {
  writes: number
}

/** One computer with a till's database on its disk, and the library's process. */
export class Machine {
  host: Host
  replica: Register
  readonly options: MachineOptions
  private life: Life = { writes: Number.POSITIVE_INFINITY }
  private second: Register | undefined

  private constructor(host: Host, options: MachineOptions) {
    this.host = host
    this.options = options
    this.replica = this.process()
  }

  static async open(host: Host, options: MachineOptions): Promise<Machine> {
    const machine = new Machine(host, options)
    await machine.replica.install()
    return machine
  }

  async clone(): Promise<Machine> {
    return Machine.open(await this.host.clone(), { ...this.options, clock: this.options.clock.copy() })
  }

  async restart(): Promise<void> {
    await this.stopProcesses()
    this.replica = this.process()
    await this.replica.install()
  }

  async restore(backup: unknown): Promise<void> {
    await this.stopProcesses()
    await this.host.restore(backup)
    await this.restart()
  }

  async exchangeOn(host: Host): Promise<void> {
    await this.stopProcesses()
    await this.host.close()
    this.host = host
    await this.restart()
  }

  async prune(): Promise<void> {
    await this.replica.prune()
  }

  /** Ends the process within `work`, before its transaction of this number; another one begins. */
  async crash(writes: number, work: () => Promise<unknown>): Promise<void> {
    this.life.writes = writes
    await work().catch(() => undefined)
    this.life.writes = Number.POSITIVE_INFINITY
    await this.restart()
  }

  async sales(): Promise<readonly Sale[]> {
    return salesOf(
      await this.host.query<Omit<Sale, 'lines'>>('SELECT id, receipt_no, customer_no, status FROM receipts'),
      await this.host.query<Line>('SELECT id, receipt_id, item_no, quantity FROM receipt_lines'),
    )
  }

  async stop(): Promise<void> {
    await this.stopProcesses()
    await this.host.close()
  }

  /** Sends what there is by another process, which reaches head office by itself. */
  async synchronizeBeside(): Promise<void> {
    this.second ??= this.process({ ...this.options, token: undefined }, { writes: Number.POSITIVE_INFINITY })
    await this.second.synchronize()
  }

  private async stopProcesses(): Promise<void> {
    await Promise.all([this.replica.stop(), this.second?.stop()])
    this.second = undefined
  }

  private process(options = this.options, life: Life = this.life): Register {
    const { name, clock, link, token, mailbox, identity, subscribes, recordsPerRun, bytesPerRun, forgetAfterMs } = options
    return new RegisterReplica(
      {
        ...name,
        database: mortal(this.host.database(), life),
        publish: publishRules(identity, subscribes),
        ...(subscribes && { subscribe: MIRRORS }),
        transfer: {
          ...(token === undefined
            ? { type: 'push', ...(mailbox ? { mailbox, answerMs: 5_000, everyMs: 1_000, resend: { minMs: 1_000, maxMs: 1_000 } } : { link }) }
            : { type: 'pull', token }),
          recordsPerRun,
          ...(bytesPerRun && { bytesPerRun }),
        },
        retainMs: 0,
        ...(forgetAfterMs && { forgetAfterMs }),
      },
      clock,
    )
  }
}

function mortal(database: CapturingDatabase, life: Life): CapturingDatabase {
  return new Proxy(database, {
    get(target, name) {
      const value = Reflect.get(target, name, target)
      if (typeof value !== 'function') return value
      return (...args: unknown[]) => {
        if ((name === 'write' && --life.writes < 0) || (name === 'read' && life.writes < 0)) throw new Error('The process has ended')
        return value.apply(target, args)
      }
    },
  })
}
