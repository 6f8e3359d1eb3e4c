import type { Break } from '../differential/break.ts'
import { withoutSome } from '../differential/shrink.ts'
import type { Schedule } from './steps.ts'

/** A smaller schedule that breaks the same promise. */
export async function withoutSteps(
  schedule: Schedule,
  kind: string,
  trial: (one: Schedule) => Promise<Break | undefined>,
  deadline: number,
): Promise<Schedule> {
  const breaks = async (smaller: Schedule) => (await trial(smaller))?.kind === kind
  let smallest = schedule
  for (let before = Number.POSITIVE_INFINITY; before > sizeOf(smallest) && Date.now() < deadline; ) {
    before = sizeOf(smallest)
    smallest = await withoutSome(smallest, 'steps', breaks, deadline)
    for (const simpler of simplerSchedules(smallest)) if (Date.now() < deadline && (await breaks(simpler))) smallest = simpler
  }
  return smallest
}

function sizeOf({ registers, steps, recordsPerRun, frames, subscribes, pulled, prunesArchive, double }: Schedule): number {
  return (
    registers.length +
    (frames ? 1 : 0) +
    (subscribes ? 1 : 0) +
    (pulled ? 1 : 0) +
    (prunesArchive ? 1 : 0) +
    (double ? 1 : 0) +
    JSON.stringify(steps).length +
    (recordsPerRun < 500 ? 1 : 0)
  )
}

function* simplerSchedules(one: Schedule): Generator<Schedule> {
  if (one.registers.length > 1) yield { ...one, registers: one.registers.slice(0, 1) }
  if (one.registers.includes('postgres')) yield { ...one, registers: one.registers.map(() => 'sqlite') }
  if (one.recordsPerRun < 500) yield { ...one, recordsPerRun: 500 }
  if (one.frames) yield { ...one, frames: false }
  if (one.prunesArchive) yield { ...one, prunesArchive: false }
  if (one.double) yield { ...one, double: false }
  if (one.pulled) yield { ...one, pulled: false }
  if (one.subscribes) yield { ...one, subscribes: false }
  for (const [n, step] of one.steps.entries()) {
    const replaced = (other: typeof step) => ({ ...one, steps: one.steps.map((kept, at) => (at === n ? other : kept)) })
    if ('fates' in step && step.fates.length > 0) {
      yield replaced({ ...step, fates: [] })
      yield replaced({ ...step, fates: step.fates.slice(0, -1) })
    }
    if (step.do !== 'sell' && 'seed' in step && 'copy' in step) yield replaced({ ...step, do: 'sell' })
  }
}
