import type { Value } from '../model.ts'

/** The columns of a table that say from and until which day a record counts, both included; by these names unless `mirror` says otherwise. */
export const VALIDITY = ['valid_from', 'valid_to'] as const

/** What lies beyond is as good as these: days are compared as texts. The last moment of 9999 by UTC is one of 10000 east of it. */
const [FIRST, LAST] = ['0000-01-01', '9999-12-31']

/** The day of a moment where the register stands: ISO 8601. */
export function dayOf(at: Date): string {
  const part = (number: number, digits = 2) => String(number).padStart(digits, '0')
  const year = at.getFullYear()
  if (year < 0) return FIRST
  return year > 9999 ? LAST : `${part(year, 4)}-${part(at.getMonth() + 1)}-${part(at.getDate())}`
}

/**
 * Whether a record counts on a day. A date counts as it is written, a time with an offset on the day that it is where the register stands; what is no date has no bound.
 */
export function countsOn(day: string, from: Value | undefined, to: Value | undefined): boolean {
  const [first, last] = [readDay(from), readDay(to)]
  return (first === undefined || first <= day) && (last === undefined || day <= last)
}

const DAY = /^\d{4,}-[01]\d-[0-3]\d/
const OFFSET = /[T ].*(Z|[+-]\d\d(:?\d\d)?)$/i

function readDay(value: Value | undefined): string | undefined {
  if (typeof value !== 'string') return undefined
  if (value === 'infinity') return LAST
  if (value === '-infinity' || value.endsWith(' BC')) return FIRST
  if (!DAY.test(value)) return undefined
  const time = OFFSET.test(value) ? new Date(strict(value)) : undefined
  if (time !== undefined && !Number.isNaN(time.getTime())) return dayOf(time)
  return value.indexOf('-') > 4 ? LAST : value.slice(0, 10)
}

/** A time as databases write it too, `2026-03-28 23:30:00+02`, as ECMAScript reads it for certain. */
function strict(value: string): string {
  return value
    .replace(/[t ]/i, 'T')
    .replace(' ', '')
    .replace(/z$/, 'Z')
    .replace(/[+-]\d\d$/, '$&:00')
}
