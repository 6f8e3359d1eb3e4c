import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { checkName, checkNames, isPostable, known, readLimit, unlessGiven, whole } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import type { HandlersByTable } from './batch.ts'
import { type Condition, type FoundClosings, findClosings, findWaiting, type WaitingClosing } from './closing-recall.ts'
import { POSTED_CLOSINGS } from './closing-tables.ts'
import { dateOf } from './sums.ts'

/** Bounds, both included. */
export interface Between<T> {
  readonly from?: T
  readonly through?: T
}

export interface WhichClosings {
  /** The warehouse. */
  readonly location: string
  /** The register by its name at that location; one at another location by both names. */
  readonly register?: string | RegisterName
  /** ISO 8601. */
  readonly businessDate?: string | Between<string>
  readonly closingNo?: number | Between<number>
  /** Those behind this number. */
  readonly after?: number
  /** Default 100, at most 1,000. */
  readonly limit?: number
}

/** Recalls what was posted, and what waits. */
export class ClosingBook {
  private readonly database: ApplyingDatabase
  private readonly ready: () => Promise<void>
  private readonly hasClosings: boolean

  constructor(database: ApplyingDatabase, handlers: HandlersByTable, ready: () => Promise<void>) {
    this.database = database
    this.hasClosings = [...handlers.values()].flat().some(({ ledger }) => ledger === POSTED_CLOSINGS.name)
    this.ready = ready
  }

  async list(which: WhichClosings): Promise<FoundClosings> {
    const condition = readWhich(which)
    await this.open()
    const { database } = this
    return database.read(() => findClosings(database, condition))
  }

  async waiting(which: Partial<RegisterName> = {}): Promise<readonly WaitingClosing[]> {
    known('which', which, ['location', 'register'])
    const { location, register } = which
    checkNames({ location, register })
    await this.open()
    const { database } = this
    return database.read(() => findWaiting(database, which))
  }

  private async open(): Promise<void> {
    await this.ready()
    if (this.hasClosings) return
    throw new TillsyncError('ERR_OPTION', 'There are no closings: no handler posts any', {
      hint: 'subscribe: { plu_closings: pluClosings({ closing, line }) }',
    })
  }
}

/** @throws ERR_OPTION */
function readWhich(which: WhichClosings): Condition {
  if (typeof which !== 'object' || which === null) throw bad('which', 'an object such as { location }', which)
  known('which', which, ['location', 'register', 'businessDate', 'closingNo', 'after', 'limit'])
  const { location, register } = which
  if (typeof location !== 'string' || location === '' || !isPostable(location)) throw bad('location', 'the code of a warehouse', location)
  const parameters: unknown[] = [location]
  const conditions = ['c.location = $1']
  const add = (condition: (name: string) => string, value: unknown) => {
    parameters.push(value)
    conditions.push(condition(`$${parameters.length}`))
  }
  if (register !== undefined) {
    const name = typeof register === 'string' ? { location, register } : register
    if (typeof name?.location !== 'string' || typeof name.register !== 'string') throw bad('register', 'a name, or { location, register }', register)
    checkName('register.location', name.location)
    checkName('register', name.register)
    add((value) => `r.location = ${value}`, name.location)
    add((value) => `r.register = ${value}`, name.register)
  }
  for (const [bound, value] of boundsOf('businessDate', which.businessDate)) {
    const date = dateOf(value)
    if (date === undefined || date !== value) throw bad('businessDate', "an ISO 8601 date, or { from, through } of such: '2026-11-21'", value)
    add((parameter) => `c.business_date ${bound} ${parameter}::date`, date)
  }
  for (const [bound, value] of boundsOf('closingNo', which.closingNo))
    add((parameter) => `c.closing_no ${bound} ${parameter}`, whole('closingNo', value, 1))
  const limit = readLimit(which.limit, 100)
  return { sql: conditions.join(' AND '), parameters, limit, after: whole('after', unlessGiven(which.after, 0), 0) }
}

function boundsOf(option: string, value: unknown): readonly (readonly ['=' | '>=' | '<=', unknown])[] {
  if (value === undefined) return []
  if (typeof value !== 'object' || value === null) return [['=', value]]
  known(option, value, ['from', 'through'])
  const { from, through } = value as Between<unknown>
  return [...(from === undefined ? [] : [['>=', from] as const]), ...(through === undefined ? [] : [['<=', through] as const])]
}

function bad(option: string, expected: string, got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `Expected \`${option}\` to be ${expected}, got ${got === null ? 'null' : typeof got}`, {
    hint: "central.closings({ location: 'BA01', businessDate: { from: '2026-11-01', through: '2026-11-30' } })",
    context: { option },
  })
}
