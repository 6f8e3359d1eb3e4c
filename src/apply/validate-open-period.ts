import { messageOf, TillsyncError } from '../errors.ts'
import type { AnyDocument, RegisterName } from '../model.ts'
import { known } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import type { Check, FoundProblem, RootColumn } from './validate.ts'

/** A table of central's whose rows are closed periods, both days included; one that is NULL bounds nothing: what was before, or comes after, is closed too. With `location`, of that location alone; NULL: of all. */
export interface ClosedPeriodsTable {
  readonly table: string
  /** Columns of type date. */
  readonly from: string
  readonly through: string
  readonly location?: string
}

/** A pure function that says whether a day (ISO 8601, `2026-11-21`) is closed for a register; or a table. */
export type ClosedPeriods = ((date: string, origin: RegisterName) => boolean) | ClosedPeriodsTable

/**
 * A check that the period of a document's date, a column of the root record, is not closed. A document of a closed one, or without a date, is ERR_CLOSED_PERIOD.
 *
 * @throws ERR_OPTION
 */
export function openPeriod<D = AnyDocument>(options: { readonly date: RootColumn<NoInfer<D>>; readonly closed: ClosedPeriods }): Check<D> {
  checkOptions(options)
  const { date, closed } = options
  return {
    name: 'openPeriod',
    *check(database) {
      if (typeof closed !== 'function') yield* checkTable(database, closed)
    },
    *problems(documents, { database, origin }) {
      const dates = documents.map((document) => dateOf(document.value[date]))
      const known = [...new Set(dates.filter((day) => day !== undefined))]
      const shut = typeof closed === 'function' ? closedBy(closed, known, origin) : yield* closedIn(database, closed, known, origin.location)
      return dates.map((day) => problemOf(day, date, shut))
    },
  }
}

function problemOf(day: string | undefined, column: string, closed: ReadonlySet<string>): FoundProblem | undefined {
  if (day === undefined) return { code: 'ERR_CLOSED_PERIOD', message: `\`${column}\` is no ISO 8601 date`, hint: 'Correct it at the till.' }
  if (!closed.has(day)) return undefined
  return {
    code: 'ERR_CLOSED_PERIOD',
    message: `The period of ${day} is closed`,
    hint: 'Open the period and retry, correct the date at the till, or discard the document.',
  }
}

/** Of a text with a time the date counts. */
function dateOf(value: unknown): string | undefined {
  const day = typeof value === 'string' ? /^(\d{4}-\d{2}-\d{2})(?:[T ].*)?$/.exec(value)?.[1] : undefined
  if (day === undefined) return undefined
  const date = new Date(`${day}T00:00:00Z`)
  return !Number.isNaN(date.getTime()) && date.toISOString().startsWith(day) ? day : undefined
}

function closedBy(
  closed: (date: string, origin: RegisterName) => boolean,
  days: readonly string[],
  { location, register }: RegisterName,
): ReadonlySet<string> {
  return new Set(
    days.filter((day) => {
      let answer: unknown
      try {
        answer = closed(day, { location, register })
      } catch (thrown) {
        throw new TillsyncError('ERR_HANDLER', `The function of openPeriod() threw: ${messageOf(thrown)}`, { cause: thrown })
      }
      if (typeof answer === 'boolean') return answer
      if (answer instanceof Promise) answer.catch(() => undefined)
      throw new TillsyncError('ERR_HANDLER', `The function of openPeriod() returned ${answer instanceof Promise ? 'a promise' : typeof answer}`, {
        hint: 'It returns true or false, at once.',
      })
    }),
  )
}

function quote(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

function* closedIn(database: ApplyingDatabase, closed: ClosedPeriodsTable, days: readonly string[], location: string): Work<ReadonlySet<string>> {
  if (days.length === 0) return new Set()
  const here = closed.location === undefined ? '' : `AND (p.${quote(closed.location)} IS NULL OR p.${quote(closed.location)}::text = $2)`
  const [from, through] = [`p.${quote(closed.from)}`, `p.${quote(closed.through)}`]
  const rows = yield* query<{ day: string }>({
    sql: `SELECT s.day FROM unnest($1::text[]) AS s(day) WHERE EXISTS (
            SELECT FROM ${database.qualify(closed.table)} p WHERE (${from} IS NULL OR ${from} <= s.day::date) AND (${through} IS NULL OR s.day::date <= ${through}) ${here})`,
    parameters: here === '' ? [days] : [days, location],
  })
  return new Set(rows.map(({ day }) => day))
}

function* checkTable(database: ApplyingDatabase, closed: ClosedPeriodsTable): Work<void> {
  const table = (yield* database.describe([closed.table])).get(closed.table)
  if (table === undefined)
    throw new TillsyncError('ERR_UNKNOWN_TABLE', `openPeriod() has no table \`${closed.table}\` to look in`, { context: { table: closed.table } })
  for (const column of [closed.from, closed.through, closed.location]) {
    if (column === undefined || table.columns.some(({ name }) => name === column)) continue
    throw new TillsyncError('ERR_UNKNOWN_COLUMN', `\`${closed.table}\` has no column \`${column}\``, {
      hint: `There are: ${table.columns.map(({ name }) => name).join(', ')}.`,
      context: { table: closed.table, column },
    })
  }
}

function checkOptions(options: { readonly date: string; readonly closed: ClosedPeriods }): void {
  const hint = "openPeriod({ date: 'business_date', closed: { table: 'closed_periods', from: 'starts_on', through: 'ends_on' } }), or a function"
  const isText = (value: unknown): boolean => typeof value === 'string' && value !== ''
  if (typeof options !== 'object' || options === null) throw new TillsyncError('ERR_OPTION', 'openPeriod() expects an object', { hint })
  known('openPeriod', options, ['date', 'closed'])
  if (!isText(options.date)) throw new TillsyncError('ERR_OPTION', 'openPeriod() expects `date` to be a column of the root table', { hint })
  const { closed } = options
  if (typeof closed === 'function') return
  if (typeof closed !== 'object' || closed === null)
    throw new TillsyncError('ERR_OPTION', 'openPeriod() expects `closed` to be a function or a table', { hint })
  known('openPeriod.closed', closed, ['table', 'from', 'through', 'location'])
  if (![closed.table, closed.from, closed.through].every(isText) || (closed.location !== undefined && !isText(closed.location)))
    throw new TillsyncError('ERR_OPTION', 'openPeriod() expects `closed` to name a table and its columns', { hint })
}
