import { TillsyncError } from '../errors.ts'
import type { PartShape, RegisterName } from '../model.ts'
import { checkName, known } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { readTime } from './archive-book.ts'
import { tablesOf } from './document-set.ts'
import type { HandlersByTable } from './handler.ts'
import { kindOf } from './mapping.ts'
import type { ReplayPlan } from './replay-slice.ts'
import { SHAPES } from './tables.ts'

/** Which documents are gone through; each condition narrows. */
export interface WhichReplayed {
  /** A root table that has a handler. */
  readonly table: string
  /**
   * Only documents whose latest version was received then or later, by the clock of central's database: a Date, or ISO 8601 with its offset. Of one that was removed, the version
   * before. Default: all.
   */
  readonly since?: Date | string | undefined
  /** Default: all that are known, revoked ones too. */
  readonly registers?: readonly RegisterName[] | undefined
}

export interface ReadReplayed {
  readonly table: string
  readonly since: string | undefined
  readonly registers: readonly RegisterName[] | undefined
}

const HINT = "central.replay({ table: 'receipts', since: new Date('2026-11-01'), registers: [{ location: 'BA01', register: 'POS3' }] })"

/** @throws ERR_OPTION */
export function readWhich(which: WhichReplayed): ReadReplayed {
  if (typeof which !== 'object' || which === null) throw wrong('which', 'an object: { table, since?, registers? }', which)
  known('which', which, ['table', 'since', 'registers'])
  const { table, since, registers } = which
  checkName('table', table)
  if (registers !== undefined && !Array.isArray(registers)) throw wrong('registers', 'a list of registers: [{ location, register }]', registers)
  for (const one of registers ?? []) {
    if (typeof one !== 'object' || one === null) throw wrong('registers', 'a list of registers: [{ location, register }]', one)
    checkName('registers.location', one.location)
    checkName('registers.register', one.register)
  }
  return { table, since: readTime('since', since, HINT), registers }
}

function wrong(option: string, expected: string, got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `Expected \`${option}\` to be ${expected}, got ${kindOf(got)}`, { hint: HINT, context: { option } })
}

/**
 * What a replay of a table goes through: its documents, and those of other tables of which its handlers keep something.
 *
 * @throws ERR_UNKNOWN_TABLE, ERR_RULE
 */
export function* planOf(database: ApplyingDatabase, handlers: HandlersByTable, table: string, since: string | undefined): Work<ReplayPlan> {
  yield* checkTable(database, handlers, table)
  const own = handlers.get(table) ?? []
  const alongside = new Map(own.flatMap((handler) => Object.entries(handler.alongside ?? {})).map(([other, handler]) => [handler, other]))
  return {
    tables: [...new Set([table, ...alongside.values()])],
    since,
    takes: (handler, of) => of === table || alongside.get(handler) === of,
  }
}

function* checkTable(database: ApplyingDatabase, handlers: HandlersByTable, table: string): Work<void> {
  const rows = yield* query<{ table_name: string; parts: string }>({
    sql: `SELECT DISTINCT table_name, parts::text FROM ${database.qualify(SHAPES.name)}`,
    parameters: [],
  })
  const context = { table }
  const isRoot = rows.some(({ table_name }) => table_name === table)
  const above = rows.find(({ parts }) => tablesOf(JSON.parse(parts) as PartShape[]).includes(table))
  if (!isRoot && above !== undefined) {
    throw new TillsyncError('ERR_RULE', `\`${table}\` holds parts of \`${above.table_name}\``, {
      hint: `Documents are replayed whole: replay({ table: '${above.table_name}' }).`,
      context,
    })
  }
  if ((handlers.get(table) ?? []).length > 0) return
  if (isRoot || handlers.has(table)) {
    throw new TillsyncError('ERR_RULE', `\`${table}\` has no handler that could be run again`, {
      hint: 'What has no handler is archived only: subscribe to it.',
      context,
    })
  }
  throw new TillsyncError('ERR_UNKNOWN_TABLE', `No register sends a table \`${table}\`, and \`subscribe\` does not name it`, {
    hint: `With handlers: ${[...handlers.keys()].join(', ') || 'none'}.`,
    context,
  })
}
