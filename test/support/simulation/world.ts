import type { RegisterName } from '../../../src/index.ts'
import { Random } from '../random.ts'
import { Cashier } from './cashier.ts'
import { type SimulatedClock, WallClock } from './clock.ts'
import { Comparisons } from './comparisons.ts'
import type { Host, Hosts } from './hosts.ts'
import { Machine } from './machine.ts'
import { Network, TOKEN } from './network.ts'
import type { Office } from './office.ts'
import { Post } from './post.ts'
import { movedBy, type Sale, textOf } from './sale.ts'
import type { Schedule } from './steps.ts'

/** By what a history may part from what central has of it. */
const PARTING: readonly Schedule['steps'][number]['do'][] = ['restore', 'central restore', 'clone', 'another', 'forget']
/** After so long a register forgets central, where it does. */
const FORGET_AFTER_MS = 3_600_000
/** The least that a batch may hold. */
const LEAST_BYTES = 1_024

/** A register with all that speaks under its name, and what is known of it from outside. */
export class Seat {
  readonly name: RegisterName
  readonly machines: Machine[] = []
  readonly backups: unknown[] = []
  /** All that each sale ever moved, at any moment and on any copy, by its name. */
  readonly moved = new Map<string, Set<string>>()
  /** As each was last seen, on whichever copy. */
  readonly known = new Map<string, Sale>()
  /** Sales that were deleted on any copy. */
  readonly deleted = new Set<string>()
  /** How often each was deleted: it may have been entered again, and then what each of them moved stands. */
  readonly ends = new Map<string, number>()
  /** Whether its database was set up anew: of what was before nobody speaks any more. */
  isReset = false

  private readonly identity: boolean

  constructor(name: RegisterName, identity: boolean) {
    this.name = name
    this.identity = identity
  }

  copy(number: number): Machine {
    return this.machines[number % this.machines.length] as Machine
  }

  /** Nothing tells a sale from a former one under its key, where both come between two sealings: it takes the other's place, or gives it up. */
  private isUsedAgain({ id, customer_no }: Sale): boolean {
    return [...this.deleted].some((name) => name !== customer_no && this.known.get(name)?.id === id)
  }

  note(before: readonly Sale[], after: readonly Sale[]): void {
    for (const sale of after) {
      const all = this.moved.get(sale.customer_no) ?? new Set()
      this.moved.set(sale.customer_no, all.add(textOf(movedBy(sale))))
      this.known.set(sale.customer_no, sale)
    }
    for (const { customer_no } of before) {
      if (after.some((sale) => sale.customer_no === customer_no)) continue
      this.deleted.add(customer_no)
      this.ends.set(customer_no, (this.ends.get(customer_no) ?? 0) + 1)
    }
    if (!this.identity) for (const sale of after) if (this.isUsedAgain(sale)) this.deleted.add(sale.customer_no)
  }
}

/** All that a schedule plays on. */
export class World {
  readonly office: Office
  readonly network: Network
  readonly post: Post
  readonly seats: readonly Seat[]
  readonly comparisons = new Comparisons()
  private readonly hosts: Readonly<Record<'sqlite' | 'postgres', Hosts>>
  private readonly clock: SimulatedClock
  private readonly schedule: Schedule
  private names = 0
  /** Which copies head office reaches, by register, and hears only while an exchange is to be. */
  private readonly reached = new Map<string, Machine['replica']['fetch']>()

  private constructor(office: Office, hosts: World['hosts'], clock: SimulatedClock, schedule: Schedule) {
    this.office = office
    this.clock = clock
    this.hosts = hosts
    this.schedule = schedule
    this.network = new Network((from, bytes) => office.receive(from, bytes))
    this.post = new Post(this.network)
    this.seats = schedule.registers.map((_, n) => new Seat({ location: 'BA01', register: `POS${n + 1}` }, schedule.identity))
  }

  static async open(office: Office, hosts: World['hosts'], clock: SimulatedClock, schedule: Schedule): Promise<World> {
    const world = new World(office, hosts, clock, schedule)
    const names = world.seats.map(({ name }) => name)
    const pulled = world.isPulled ? world.network.pulling((register) => world.reached.get(register)) : undefined
    await office.begin(names, { pulled, prunesArchive: schedule.prunesArchive ?? false, isDouble: schedule.double ?? false })
    for (const [n, seat] of world.seats.entries()) {
      const { identity, recordsPerRun, frames, forgets, subscribes } = schedule
      const options = {
        name: seat.name,
        clock: new WallClock(schedule.mailboxes ? world.post.clock(clock) : clock),
        link: world.network.link(seat.name),
        ...(world.isPulled && { token: TOKEN }),
        ...(schedule.mailboxes && { mailbox: world.post.mailbox(seat.name) }),
        identity,
        subscribes,
        recordsPerRun,
        bytesPerRun: frames ? LEAST_BYTES : undefined,
        forgetAfterMs: forgets ? FORGET_AFTER_MS : undefined,
      }
      seat.machines.push(await Machine.open(await world.emptyHost(n), options))
    }
    return world
  }

  /** Whether head office starts the exchanges. */
  get isPulled(): boolean {
    return this.schedule.pulled === true && this.schedule.mailboxes !== true
  }

  /** Until nothing is left, or a message fails. */
  async synchronize(seat: Seat, machine: Machine): Promise<void> {
    if (!this.isPulled) return void (await machine.replica.synchronize())
    this.reached.set(seat.name.register.toLowerCase(), (request) => machine.replica.fetch(request))
    // What it seals in the background where it is started.
    await machine.replica.seal()
    await this.office.central.synchronize(seat.name)
  }

  get isMended(): boolean {
    return this.schedule.mended ?? false
  }

  /** Whether registers get what central publishes. */
  get subscribes(): boolean {
    return this.schedule.subscribes ?? false
  }

  /** Whether central is forgotten that was silent for too long. */
  get forgets(): boolean {
    return this.schedule.forgets ?? false
  }

  /** Whether anything happens by which a history may part from what central has of it. */
  get parts(): boolean {
    return this.schedule.steps.some((step) => PARTING.includes(step.do))
  }

  /** Nobody has spoken to central for so long. */
  fallSilent(): void {
    this.clock.pass(2 * FORGET_AFTER_MS)
  }

  emptyHost(register: number): Promise<Host> {
    return this.hosts[this.schedule.registers[register] ?? 'sqlite'].open()
  }

  cashier(machine: Machine, seed: number): Cashier {
    return new Cashier(machine, new Random(seed), () => `S${++this.names}`)
  }

  async close(): Promise<void> {
    await this.comparisons.end().catch(() => undefined)
    for (const seat of this.seats) for (const machine of seat.machines) await machine.stop()
  }
}
