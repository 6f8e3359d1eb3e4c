import { hash } from 'node:crypto'
import { TillsyncError } from '../errors.ts'
import type { MirrorTarget } from '../mirroring.ts'
import { MAX_NAME, MOST_SUBSCRIBED, type PartShape } from '../model.ts'
import { isRecord } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { ownOf } from '../record.ts'
import type { Work } from '../work.ts'
import { tablesOf } from './document-set.ts'
import type { HandlersByTable, Mirror } from './handler.ts'
import { make, mirrorOptions, optionsWithin, refuseSharedTargets } from './mirror.ts'
import type { PlainMirrorOptions } from './mirror-options.ts'
import type { FollowRule } from './notice-rows.ts'

/**
 * The mirrors of a register, by central's tables: those of roots and those of parts, which only central can tell apart. Where central owns which rows there are,
 * what it removes is removed here too, unless `removals` says otherwise.
 *
 * @throws ERR_OPTION, ERR_RULE
 */
export function readMirrors(subscribe: Readonly<Record<string, unknown>>): HandlersByTable {
  if (!isRecord(subscribe))
    throw bad(
      'subscribe',
      'an object such as { items: mirror() }',
      Array.isArray(subscribe) ? 'a list' : subscribe === null ? 'null' : typeof subscribe,
    )
  const named = new Map<string, readonly [Mirror]>()
  for (const [table, given] of Object.entries(subscribe)) {
    if (given === undefined) continue
    const options = typeof given === 'object' && given !== null ? mirrorOptions(given) : undefined
    if (options === undefined) throw bad(`subscribe.${table}`, 'a mirror', Array.isArray(given) ? 'a list' : given === null ? 'null' : typeof given)
    if (options.origin !== undefined) {
      throw new TillsyncError('ERR_OPTION', `\`subscribe.${table}\` has \`origin\`, which fills columns at central`, {
        hint: 'What central publishes with `origin` comes without these columns.',
        context: { table },
      })
    }
    named.set(table, [make(owned(options), new Map())])
  }
  const odd = [...named.keys()].find((table) => table === '' || table.length > MAX_NAME)
  if (odd !== undefined) throw bad(`subscribe.${odd}`, `a name of 1 to ${MAX_NAME} characters`, `${odd.length}`)
  if (named.size > MOST_SUBSCRIBED) throw bad('subscribe', `at most ${MOST_SUBSCRIBED} tables`, `${named.size}`)
  refuseSharedTargets(named)
  return new Map([...named].map(([table, [mirror]]) => [table, [mirror.within?.(named) ?? mirror]]))
}

function owned(options: PlainMirrorOptions): PlainMirrorOptions {
  return options.rows === 'update' || options.removals !== undefined ? options : { ...options, removals: 'apply' }
}

function bad(option: string, expected: string, got: string): TillsyncError {
  return new TillsyncError('ERR_OPTION', `Expected \`${option}\` to be ${expected}, got ${got}`, {
    hint: 'subscribe: { items: mirror() }. What else is to be done with documents is done at central; a register hears of them by the event `applied`.',
    context: { option },
  })
}

/** What holds for each table of the documents of a root. */
export function optionsOf(mirrors: HandlersByTable, root: string): (table: string) => PlainMirrorOptions {
  const options = mirrorOptions(mirrors.get(root)?.[0] ?? {}) ?? {}
  const within = optionsWithin(options, mirrors)
  return (table) => within(table, root)
}

/** The table here that holds the records of one of central's. */
export function targetOf(mirrors: HandlersByTable, root: string, table: string): string {
  return optionsOf(mirrors, root)(table).rename?.table ?? table
}

/** The same text as long as documents become the same rows. */
export function rulesOf(mirrors: HandlersByTable, root: string, shape: readonly PartShape[]): string {
  const rules = [root, ...tablesOf(shape)].map((table) => {
    const { only, except, rename, rows, removals, map } = optionsOf(mirrors, root)(table)
    return [table, only, except, rename, rows, removals, map && String(map)]
  })
  return hash('sha256', JSON.stringify(rules))
}

/** What is followed, by the tables here. */
export function followRules(mirrors: HandlersByTable): readonly FollowRule[] {
  return [...mirrors].flatMap(([table, [mirror]]): readonly FollowRule[] => {
    const { notify, validity, rename } = mirrorOptions(mirror ?? {}) ?? {}
    if (notify === undefined) return []
    return [{ table: rename?.table ?? table, columns: notify.map((name) => ownOf(rename?.columns, name) ?? name), validity }]
  })
}

/** What of a shape has its tables here; `leftOut` is told of the others. */
export function* fitting(
  database: ApplyingDatabase,
  mirrors: HandlersByTable,
  root: string,
  shape: readonly PartShape[],
  leftOut: (table: string) => void,
): Work<readonly PartShape[]> {
  // A part that the host names is wanted: without its table the documents wait.
  const asked = tablesOf(shape).filter((table) => !mirrors.has(table))
  const nameOf = (table: string) => targetOf(mirrors, root, table)
  const targets = asked.length === 0 ? new Map<string, MirrorTarget>() : yield* database.mirroring.targets([...new Set(asked.map(nameOf))])
  const fit = (parts: readonly PartShape[]): readonly PartShape[] =>
    parts.flatMap((part) => {
      if (mirrors.has(part.table) || targets.has(nameOf(part.table))) return [{ ...part, parts: fit(part.parts) }]
      leftOut(nameOf(part.table))
      return []
    })
  return fit(shape)
}
