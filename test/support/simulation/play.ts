import type { TillsyncError } from '../../../src/errors.ts'
import { Break } from '../differential/break.ts'
import { Random } from '../random.ts'
import { ordering } from './buyer.ts'
import type { Machine } from './machine.ts'
import { refill, replayIdly } from './replays.ts'
import type { Schedule, Step } from './steps.ts'
import type { Seat, World } from './world.ts'

/** What an exchange may fail with while things go wrong; anything else is a break. */
const EXPECTED = ['ERR_LINK', 'ERR_MESSAGE', 'ERR_CLONED', 'ERR_FORKED', 'ERR_NOT_NEXT', 'ERR_UNANSWERED']
const MOST_COPIES = 3

export async function play(world: World, { steps }: Schedule): Promise<void> {
  for (const step of steps) await take(world, step)
}

async function take(world: World, step: Step): Promise<void> {
  const { office, network } = world
  switch (step.do) {
    case 'central backup':
      return office.backup()
    case 'central restart':
      return office.restart()
    case 'central prune':
      return void (await office.central.prune())
    case 'central jump':
      return office.clock.jump(step.ms)
    case 'publish':
      return office.purchase(new Random(step.seed))
    case 'replay':
      return replayIdly(office)
    case 'refill':
      return refill(office)
    case 'central restore':
      return office.restore(step.backup)
    case 'deliver':
      return void (await network.deliverLetter(step.letter).catch(asExpected))
    default: {
      const seat = world.seats[step.register % world.seats.length] as Seat
      await takeAt(world, seat, seat.copy(step.copy), step)
    }
  }
}

async function takeAt(world: World, seat: Seat, machine: Machine, step: Extract<Step, { readonly copy: number }>): Promise<void> {
  const { network } = world
  switch (step.do) {
    case 'sell':
    case 'sell large':
    case 'change':
    case 'void':
    case 'delete':
    case 'reuse':
    case 'enter again': {
      const cashier = world.cashier(machine, step.seed)
      const before = await machine.sales()
      if (step.do === 'enter again') await cashier.enterAgain([...seat.known.values()])
      else if (step.do === 'sell large') await cashier.sellLarge()
      else await cashier[step.do]()
      return seat.note(before, await machine.sales())
    }
    case 'order':
      return machine.host.run(ordering(new Random(step.seed)))
    case 'exchange':
      network.expect(step.fates, () => overtake(world, seat, machine))
      world.post.begin()
      await world.synchronize(seat, machine).catch(asExpected)
      if (world.office.prunesArchive) await world.office.prune()
      return world.post.check()
    case 'crash':
      network.expect(step.fates, () => overtake(world, seat, machine))
      world.post.begin()
      await machine.crash(step.writes, () => world.synchronize(seat, machine))
      return world.post.check()
    case 'seal':
      return void (await machine.replica.seal())
    case 'export':
      return void (await machine.replica.export('receipts', (eb) => eb.lit(true)))
    case 'reseal':
      return void (await machine.replica.reseal('receipts'))
    case 'prune':
      return machine.prune()
    case 'forget':
      world.fallSilent()
      return machine.prune()
    case 'jump':
      return machine.options.clock.jump(step.ms)
    case 'regroup':
      return world.office.central.registers.change(seat.name, { attributes: { group: step.group } })
    case 'backup':
      return void seat.backups.push(await machine.host.backup())
    case 'restore':
      return seat.backups.length === 0 ? undefined : machine.restore(seat.backups[step.backup % seat.backups.length])
    case 'compare':
      // One that is pulled it pulls at once, whatever else is being done.
      return world.isPulled ? undefined : world.comparisons.ask(world, seat, step.repair)
    case 'clone':
      return void (seat.machines.length < MOST_COPIES && seat.machines.push(await machine.clone()))
    case 'restart':
      return machine.restart()
    case 'another':
      await machine.exchangeOn(await world.emptyHost(world.seats.indexOf(seat)))
      return reset(world, seat)
    case 'keep':
      return void ((await isHeld(world, seat)) && (await keep(world, seat, machine)))
  }
}

/** While an exchange of one process is under way, another one of the till goes on. */
async function overtake(world: World, seat: Seat, machine: Machine): Promise<void> {
  const before = await machine.sales()
  await world.cashier(machine, 1).sell()
  seat.note(before, await machine.sales())
  await machine.synchronizeBeside().catch(asExpected)
}

export async function reset(world: World, seat: Seat): Promise<void> {
  seat.isReset = true
  await world.office.central.registers.reset(seat.name)
}

/** Of two copies this one is to go on. False where central has never met it. */
export async function keep(world: World, seat: Seat, machine: Machine): Promise<boolean> {
  const { head } = await machine.replica.status()
  return world.office.central.registers.keep(seat.name, { epoch: head.epoch }).then(
    () => true,
    (error: TillsyncError) => {
      if (error.code !== 'ERR_REGISTER') throw error
      return false
    },
  )
}

async function isHeld({ office }: World, seat: Seat): Promise<boolean> {
  const listed = await office.central.registers.list()
  return listed.find(({ register }) => register === seat.name.register)?.copies !== undefined
}

export function asExpected(error: TillsyncError): TillsyncError {
  if (error instanceof Break || !EXPECTED.includes(error.code)) throw error
  return error
}
