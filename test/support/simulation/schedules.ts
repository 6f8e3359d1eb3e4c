import type { Random } from '../random.ts'
import { CARE, type Fate, OFFICE, SALES, type Schedule, type Step } from './steps.ts'

export const GROUPS = ['A', 'B'] as const
const HOUR_MS = 3_600_000
/** How far a clock is set: by days and weeks, and back. */
const JUMPS_MS = [-48, -2, -0.5, 26, 24 * 9, 24 * 45].map((hours) => hours * HOUR_MS)

const FATES = ['lost', 'cut', 'kept', 'copied', 'twice', 'stale', 'overtaken', 'overtaken late'] as const
/** What a schedule may hold beside sales and exchanges; each has some of these only, so that they meet each other in small stories. */
const EVENTS = [
  'sell large',
  'change',
  'void',
  'delete',
  'reuse',
  'enter again',
  ...CARE,
  ...OFFICE,
  'jump',
  'central jump',
  'crash',
  'restore',
  'compare',
  'deliver',
  'central restore',
] as const
type Event = (typeof EVENTS)[number]

/** What brings later versions of documents. */
const REPLACING = ['change', 'void', 'export'] as const
/** What makes sense only with something else. */
const NEEDS: Partial<Readonly<Record<Event, readonly Event[]>>> = {
  restore: ['backup'],
  'central restore': ['central backup'],
  'enter again': ['backup', 'restore'],
}

/** A schedule by chance. @param postgres how likely a register is on PostgreSQL */
export function scheduleOf(random: Random, postgres: number): Schedule {
  const registers = Array.from({ length: random.chance(0.2) ? 2 : 1 }, () => (random.chance(postgres) ? ('postgres' as const) : ('sqlite' as const)))
  const chosen = EVENTS.filter(() => random.chance(0.35))
  const subscribes = random.chance(0.35)
  const prunesArchive = random.chance(0.2)
  const events = [...new Set([...chosen, ...(prunesArchive ? REPLACING : []), ...chosen.flatMap((event) => NEEDS[event] ?? [])])]
  const faults = random.chance(0.4) ? 0 : 0.4
  const pulled = random.chance(0.25)
  const frames = events.includes('sell large')
  const opening = subscribes ? openingOf(random, registers.length, events) : []
  const steps = [...opening, ...Array.from({ length: random.int(4, 34) }, () => stepOf(random, registers.length, events, faults, subscribes))]
  return {
    registers,
    identity: random.chance(0.5),
    recordsPerRun: random.pick([1, 3, 8, 500]),
    frames,
    pulled,
    subscribes,
    prunesArchive,
    forgets: events.includes('forget'),
    mended: random.chance(0.3),
    double: random.chance(0.3),
    steps,
    last: random.int(0, 5),
  }
}

/** Tills have something of what head office publishes, and what is restored later has it too. */
function openingOf(random: Random, registers: number, events: readonly Event[]): Step[] {
  const publishing = Array.from({ length: 2 }, (): Step => ({ do: 'publish', seed: random.int(1, 1_000_000) }))
  const steps = Array.from({ length: registers }, (_, register): Step[] => {
    const at = { register, copy: 0 }
    return [{ do: 'exchange', ...at, fates: [] }, ...(events.includes('restore') ? [{ do: 'backup' as const, ...at }] : [])]
  })
  return [...publishing, ...steps.flat(), ...(events.includes('central restore') ? [{ do: 'central backup' as const }] : [])]
}

function stepOf(random: Random, registers: number, events: readonly Event[], faults: number, subscribes: boolean): Step {
  const at = { register: random.int(0, registers - 1), copy: random.int(0, 5) }
  const seed = random.int(1, 1_000_000)
  if (subscribes && random.chance(0.25)) return random.chance(0.1) ? { do: 'regroup', ...at, group: random.pick(GROUPS) } : { do: 'publish', seed }
  if (subscribes && random.chance(0.15)) return { do: 'order', ...at, seed }
  if (random.chance(0.3)) return { do: 'sell', ...at, seed }
  if (random.chance(0.35) || events.length === 0) return { do: 'exchange', ...at, fates: fatesOf(random, faults) }
  const event = random.pick(events)
  const [sale, care, office] = [SALES, CARE, OFFICE].map((kinds) => (kinds as readonly string[]).includes(event))
  if (sale) return { do: event as (typeof SALES)[number], ...at, seed }
  if (care) return { do: event as (typeof CARE)[number], ...at }
  if (office) return { do: event as (typeof OFFICE)[number] }
  if (event === 'crash') return { do: 'crash', ...at, fates: fatesOf(random, faults), writes: random.int(0, 6) }
  if (event === 'restore') return { do: 'restore', ...at, backup: random.int(0, 9) }
  if (event === 'compare') return { do: 'compare', ...at, repair: random.chance(0.5) }
  if (event === 'jump') return { do: 'jump', ...at, ms: random.pick(JUMPS_MS) }
  if (event === 'central jump') return { do: 'central jump', ms: random.pick(JUMPS_MS) }
  if (event === 'central restore') return { do: 'central restore', backup: random.int(0, 9) }
  return { do: 'deliver', letter: random.int(0, 9) }
}

function fatesOf(random: Random, faults: number): Fate[] {
  return random.chance(faults) ? Array.from({ length: random.int(1, 4) }, () => (random.chance(0.4) ? 'ok' : random.pick(FATES))) : []
}
