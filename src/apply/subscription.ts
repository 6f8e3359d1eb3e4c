import { TillsyncError } from '../errors.ts'
import { tableStatements } from '../migrate.ts'
import type { OwnTable } from '../own-table.ts'
import type { ApplyingDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import type { Handler, HandlersByTable } from './handler.ts'
import type { HostHandler } from './host-handler.ts'
import { checkLedgers, withAlongside } from './ledgers.ts'
import { isMirror, mirror, mirrorOptions, refuseSharedTargets } from './mirror.ts'
import { pluClosings } from './plu-closings.ts'
import { stockMovements } from './stock-movements.ts'

/** Functions that make handlers and are none. */
const MAKERS: ReadonlySet<unknown> = new Set([mirror, stockMovements, pluClosings])

/**
 * The handlers of `subscribe`, by root table.
 *
 * @param handlerOf makes one of the host's own function
 * @throws ERR_OPTION, ERR_RULE, ERR_POSTED_TWICE
 */
export function readHandlers(subscribe: Readonly<Record<string, unknown>>, handlerOf: (run: HostHandler) => Handler): HandlersByTable {
  const handlers = new Map<string, readonly Handler[]>()
  for (const [table, given] of Object.entries(subscribe)) {
    if (given === undefined) continue
    const all = (Array.isArray(given) ? given : [given]).map((one: unknown) =>
      typeof one === 'function' && !MAKERS.has(one) ? handlerOf(one as HostHandler) : one,
    ) as Handler[]
    for (const handler of all) {
      if (typeof handler === 'object' && handler !== null && typeof handler.apply === 'function' && typeof handler.check === 'function') continue
      throw new TillsyncError('ERR_OPTION', `Expected \`subscribe.${table}\` to be a handler or a list of handlers, got ${typeof handler}`, {
        hint: 'Handlers are made by mirror(), stockMovements() and pluClosings(), or are functions of your own: async (changes, { trx }) => { … }.',
        context: { table },
      })
    }
    if (all.some((handler) => mirrorOptions(handler)?.notify !== undefined)) {
      throw new TillsyncError('ERR_OPTION', `\`subscribe.${table}\` has a mirror with \`notify\`, which is for registers`, {
        hint: 'At central an event, or a handler of your own, says what has come.',
        context: { table },
      })
    }
    if (all.filter(isMirror).length > 1) {
      throw new TillsyncError('ERR_RULE', `\`subscribe.${table}\` has two mirrors`, {
        hint: 'A table has one; write a second copy by a handler of your own.',
        context: { table },
      })
    }
    handlers.set(table, all)
  }
  const complete = withAlongside(handlers)
  checkLedgers(complete)
  refuseSharedTargets(complete)
  return new Map([...complete].map(([table, all]) => [table, all.map((handler) => handler.within?.(complete) ?? handler)]))
}

/**
 * Tables of handlers. One that stands there already must be the library's, not one of the host's by the same name.
 *
 * @throws ERR_UNKNOWN_COLUMN
 */
export function* createOrCheck(database: ApplyingDatabase, tables: readonly OwnTable[]): Work<void> {
  const there = yield* database.columnsOf(tables.map(({ name }) => name))
  yield* database.run(tableStatements(database, tables, there))
}

/** The tables of the library's own that they need. */
export function tablesOf(handlers: HandlersByTable): ReadonlySet<OwnTable> {
  return new Set([...handlers.values()].flat().flatMap((handler) => handler.tables))
}
