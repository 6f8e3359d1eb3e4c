import { TillsyncError } from '../errors.ts'
import type { Value } from '../model.ts'
import { checkName, checkNames, known, readLimit, whole } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { encodeBlob, encodeReal, encodeText } from '../record.ts'
import { type ArchivedEntry, type EntryPosition, type EntryState, listArchived } from './archive.ts'

/** Which archived entries; each condition narrows. */
export interface WhichEntries {
  readonly location?: string
  readonly register?: string
  /** Of a root or of its parts. */
  readonly table?: string
  /** Its key values in key order, as entries have them. With `table`. */
  readonly recordId?: readonly Value[]
  /** Received at or after: a Date, or ISO 8601 with its offset. */
  readonly since?: Date | string
  /** Received before. */
  readonly until?: Date | string
  readonly state?: EntryState
  /** The last entry of the page before; or an entry number of the register's present history. Default: from the first. */
  readonly after?: EntryPosition | number
  /** Default 100; at most 1,000. */
  readonly limit?: number
}

const STATES: Readonly<Record<EntryState, true>> = { latest: true, replaced: true, orphaned: true, withdrawn: true }
const NAMES = ['location', 'register', 'table', 'recordId', 'since', 'until', 'state', 'after', 'limit']
/** A time without an offset would be another one in another office. */
const TIME = /^\d{4}-\d\d-\d\d(T\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d))?$/
const MOST_KEY_COLUMNS = 8

/** Reads the archive for people. */
export class ArchiveBook {
  private readonly database: ApplyingDatabase
  private readonly ready: () => Promise<void>

  constructor(database: ApplyingDatabase, ready: () => Promise<void>) {
    this.database = database
    this.ready = ready
  }

  async list(which: WhichEntries = {}): Promise<readonly ArchivedEntry[]> {
    if (typeof which !== 'object' || which === null) throw wrong('which', 'an object such as { location, register, table }', which)
    known('which', which, NAMES)
    const { location, register, table, recordId, state } = which
    checkNames({ location, register, table })
    if (recordId !== undefined && table === undefined) throw wrong('table', 'given where there is a `recordId`', table)
    if (state !== undefined && !Object.hasOwn(STATES, state)) throw wrong('state', `one of ${Object.keys(STATES).join(', ')}`, state)
    const [since, until] = [readTime('since', which.since), readTime('until', which.until)]
    if (since !== undefined && until !== undefined && since > until) throw wrong('until', 'after `since`', which.until)
    const read = {
      location,
      register,
      table,
      recordIds: recordId === undefined ? undefined : writtenAs(recordId),
      since,
      until,
      state,
      after: readAfter(which.after ?? 0, location !== undefined && register !== undefined),
      limit: readLimit(which.limit, 100),
    }
    await this.ready()
    const entries = await this.database.read(() => listArchived(this.database, read))
    if (entries !== undefined) return entries
    throw new TillsyncError('ERR_REGISTER', `Register ${register} at ${location} is not known`, {
      hint: 'registers.list() shows who is.',
      context: { location, register },
    })
  }
}

/** As PostgreSQL takes it. @throws ERR_OPTION */
export function readTime(option: string, value: Date | string | undefined, hint?: string): string | undefined {
  if (value === undefined) return undefined
  const time = value instanceof Date ? value : typeof value === 'string' && TIME.test(value) ? new Date(value) : undefined
  if (time === undefined || Number.isNaN(time.getTime()))
    throw wrong(option, "a Date or ISO 8601 with its offset, such as '2026-11-21T00:00:00+01:00'", value, hint)
  return time.toISOString()
}

function readAfter(after: EntryPosition | number, isOneRegister: boolean): EntryPosition | number {
  if (typeof after === 'number') {
    whole('after', after, 0)
    if (after > 0 && !isOneRegister) throw wrong('after', 'the last entry of the page before, where not one register is read', after)
    return after
  }
  if (typeof after !== 'object' || after === null || typeof after.epoch !== 'string') throw wrong('after', 'an entry or an entry number', after)
  checkName('after.location', after.location)
  checkName('after.register', after.register)
  const { location, register, epoch } = after
  return { location, register, epoch, entryNo: whole('after.entryNo', after.entryNo, 0) }
}

/** How a record id may be written in an entry: a whole number is an integer there, or a double. */
function writtenAs(recordId: readonly Value[]): readonly string[] {
  if (!Array.isArray(recordId) || recordId.length === 0 || recordId.length > MOST_KEY_COLUMNS)
    throw wrong('recordId', `a list of 1 to ${MOST_KEY_COLUMNS} key values, such as [4711]`, recordId)
  const texts = recordId.map(valueTexts).reduce((all, texts) => all.flatMap((before) => texts.map((text) => [...before, text])), [[]] as string[][])
  return texts.map((one) => `[${one.join(',')}]`)
}

function valueTexts(value: unknown): string[] {
  if (typeof value === 'string') return [encodeText(value)]
  if (typeof value === 'bigint' || typeof value === 'boolean' || value === null) return [String(value)]
  if (typeof value === 'number') return Number.isSafeInteger(value) ? [String(value), encodeReal(value)] : [encodeReal(value)]
  if (value instanceof Uint8Array) return [encodeBlob(value)]
  throw wrong('recordId', 'a list of key values as entries have them', value)
}

function wrong(option: string, expected: string, got: unknown, hint?: string): TillsyncError {
  return new TillsyncError(
    'ERR_OPTION',
    `Expected \`${option}\` to be ${expected}, got ${typeof got === 'string' ? `'${got.slice(0, 50)}'` : typeof got}`,
    {
      hint: hint ?? "central.entries({ location: 'BA01', register: 'POS3', table: 'receipts', after: page.at(-1) })",
      context: { option },
    },
  )
}
