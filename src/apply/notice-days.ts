import type { Value } from '../model.ts'

/** The columns of a table that say from and until which day a record counts, both included; by these names unless `mirror` says otherwise. */
export const VALIDITY = ['valid_from', 'valid_to'] as const

/** The day of a moment where the register stands: ISO 8601. */
export function dayOf(at: Date): string {
  const part = (number: number) => String(number).padStart(2, '0')
  return `${at.getFullYear()}-${part(at.getMonth() + 1)}-${part(at.getDate())}`
}

/**
 * Whether a record counts on a day. A date counts as it is written, a time with an offset on the day that it is where the register stands; what is no date has no bound.
 */
export function countsOn(day: string, from: Value | undefined, to: Value | undefined): boolean {
  const [first, last] = [readDay(from), readDay(to)]
  return (first === undefined || first <= day) && (last === undefined || day <= last)
}

const DAY = /^\d{4}-[01]\d-[0-3]\d/
const OFFSET = /T.*(Z|[+-]\d\d(:?\d\d)?)$/

function readDay(value: Value | undefined): string | undefined {
  if (typeof value !== 'string' || !DAY.test(value)) return undefined
  const time = OFFSET.test(value) ? new Date(value) : undefined
  return time === undefined || Number.isNaN(time.getTime()) ? value.slice(0, 10) : dayOf(time)
}
