import { asTillsyncError, type TillsyncError } from '../errors.ts'
import type { MirrorTarget } from '../mirroring.ts'
import type { Finding, PartShape } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { ownOf } from '../record.ts'
import { together, type Work } from '../work.ts'
import { tablesOf } from './document-set.ts'
import type { HandlersByTable } from './handler.ts'
import { checkTarget } from './mirror-target.ts'
import { type ReceivingRules, takenByOthers } from './receiving-rules.ts'
import { rootsInOrder } from './references.ts'
import { followRules, optionsOf, rulesOf, targetOf } from './subscribed-mirrors.ts'
import { type LeftOut, nowhere, type Place, readPlaces } from './subscription-standing.ts'

/** A root table of central's that can't be taken as the tables stand here. */
export interface SubscriptionProblem {
  readonly table: string
  readonly error: TillsyncError
}

/** How the register's tables stand to what it subscribes to. */
export interface Outlook {
  /** In the order in which they are to come; those that are parts of others as far as is known, and those with problems, left out. */
  readonly tables: readonly string[]
  /** By table, those without problems. */
  readonly places: ReadonlyMap<string, Place>
  /** Those whose rows are not what they would be by now: they begin anew. */
  readonly changed: readonly Place[]
  /** Those of which a table is gone, with that taken down as left out: when it is back it may be another, and all of it comes again. */
  readonly gone: readonly Place[]
  readonly problems: readonly SubscriptionProblem[]
  readonly targets: ReadonlyMap<string, MirrorTarget>
  /** Whether documents of one root table may refer to those of another, or be referred to by them: what became of those matters to these. */
  areRelated(table: string, other: string): boolean
}

export function* lookOut(database: ApplyingDatabase, mirrors: HandlersByTable, rules: ReceivingRules): Work<Outlook> {
  const [known, inForce] = yield* together(readPlaces(database), rules.read())
  const places = new Map([...mirrors.keys()].map((table) => [table, known.get(table) ?? nowhere(table)]))
  const all = [...places.values()]
  const partsOfOthers = new Set(all.flatMap(({ shape }) => tablesOf(shape)))
  const roots = all.filter(({ table, stream }) => stream !== undefined || !partsOfOthers.has(table))
  const names = new Map(roots.map((place) => [place.table, targetsOf(mirrors, place)]))
  const lacking = roots.flatMap(({ leftOut }) => leftOut.map(([table]) => table))
  const parts = roots.flatMap(({ table, shape }) => tablesOf(shape).map((part) => targetOf(mirrors, table, part)))
  const targets = yield* database.mirroring.targets([...new Set([...[...names.values()].flat(), ...parts, ...lacking])])
  const others = rules.others(roots, inForce)
  const problems = roots.flatMap(({ table }) =>
    others.has(table) ? [{ table, error: takenByOthers(table) }] : problemOf(table, names.get(table) ?? [], targets),
  )
  const sound = roots.filter(({ table }) => !problems.some((problem) => problem.table === table))
  const order = rootsInOrder(
    sound.map(({ table }) => ({ table, names: names.get(table) ?? [] })),
    targets,
  )
  const missing = (place: Place) =>
    (names.get(place.table) ?? []).filter(
      (name) => !targets.has(name) && !place.leftOut.some(([table, column]) => table === name && column === undefined),
    )
  return {
    tables: order,
    places: new Map(order.map((table) => [table, places.get(table) as Place])),
    changed: sound.filter((place) => place.rules !== '' && (place.rules !== rulesOf(mirrors, place.table, place.shape) || hasCome(place, targets))),
    gone: roots.flatMap((place) => {
      const tables = place.rules === '' ? [] : missing(place).map((table): LeftOut => [table])
      return tables.length === 0 ? [] : [{ ...place, leftOut: [...place.leftOut, ...tables] }]
    }),
    problems,
    targets,
    areRelated: relationOf(mirrors, places, targets),
  }
}

/** By foreign keys, but for those by which the parts of a document hang together. */
function relationOf(mirrors: HandlersByTable, places: ReadonlyMap<string, Place>, targets: ReadonlyMap<string, MirrorTarget>): Outlook['areRelated'] {
  const of = (table: string) => {
    const shape = places.get(table)?.shape ?? []
    const written = new Map([[targetOf(mirrors, table, table), [] as readonly string[]], ...jointsIn(mirrors, table, shape)])
    const refers = [...written].flatMap(([name, joints]) =>
      (targets.get(name)?.foreignKeys ?? []).flatMap(({ columns, refersTo }) => (columns.every((column) => joints.includes(column)) ? [] : refersTo)),
    )
    return { written, refers }
  }
  const known = new Map([...places.keys()].map((table) => [table, of(table)]))
  const refers = (table: string, other: string) => known.get(table)?.refers.some((name) => known.get(other)?.written.has(name)) ?? false
  return (table, other) => refers(table, other) || refers(other, table)
}

function jointsIn(mirrors: HandlersByTable, root: string, shape: readonly PartShape[]): readonly (readonly [string, readonly string[]])[] {
  return shape.flatMap((part) => {
    const columns = optionsOf(mirrors, root)(part.table).rename?.columns
    const joints = Object.keys(part.columns).map((name) => ownOf(columns, name) ?? name)
    return [[targetOf(mirrors, root, part.table), joints] as const, ...jointsIn(mirrors, root, part.parts)]
  })
}

/** The tables that its documents can't do without: the root's, and those of parts that the host names. */
function targetsOf(mirrors: HandlersByTable, { table, shape }: Place): readonly string[] {
  return [table, ...tablesOf(shape).filter((part) => mirrors.has(part))].map((one) => targetOf(mirrors, table, one))
}

function problemOf(table: string, names: readonly string[], targets: ReadonlyMap<string, MirrorTarget>): readonly SubscriptionProblem[] {
  try {
    for (const name of names) checkTarget(targets.get(name), name)
    return []
  } catch (thrown) {
    return [{ table, error: asTillsyncError(thrown, 'ERR_MIRROR', `\`${table}\` can't be written`) }]
  }
}

/** Whether there is a place by now for something that was left out. */
function hasCome({ leftOut }: Place, targets: ReadonlyMap<string, MirrorTarget>): boolean {
  return leftOut.some(([table, column]) => {
    const target = targets.get(table)
    return target !== undefined && (column === undefined || target.columns.some(({ name }) => name === column))
  })
}

/** What of the tables does not fit what is subscribed to. */
export function subscriptionFindings(mirrors: HandlersByTable, { places, problems, targets }: Outlook): readonly Finding[] {
  const findings: Finding[] = problems.map(({ table, error }) => ({
    code: 'DRIFT',
    table,
    message: `What central publishes of \`${table}\` is not taken: ${error.message}`,
    hint: error.hint ?? 'Bring the table and `subscribe` together.',
  }))
  for (const { table, keyColumns, leftOut } of places.values()) {
    const target = targets.get(targetOf(mirrors, table, table))
    const { rename } = optionsOf(mirrors, table)(table)
    const sent = keyColumns.map((name) => ownOf(rename?.columns, name) ?? name)
    if (target !== undefined && keyColumns.length > 0 && (sent.length !== target.key.length || target.key.some((name) => !sent.includes(name)))) {
      findings.push({
        code: 'DRIFT',
        table,
        message: `The key of \`${target.name}\` is (${target.key.join(', ')}), central knows its documents by (${sent.join(', ')}): two of them may be one row here, or what it removes not be found`,
        hint: 'Give the table the same key as at central.',
      })
    }
    for (const [of, column] of leftOut) {
      findings.push({
        code: 'LEFT_OUT',
        table: of,
        message:
          column === undefined ? `Central sends \`${of}\`, which is not here` : `Central sends \`${of}.${column}\`, which the table does not have`,
        hint: 'Once it is there, all of it comes again by itself. Or publish less at central, or leave it out with `except`.',
      })
    }
  }
  return [...findings, ...unfollowed(mirrors, targets)]
}

/** What `mirror({ notify, validity })` names and the tables do not have: in a till of another version perhaps; otherwise misspelt, and nobody would ever be told. */
function unfollowed(mirrors: HandlersByTable, targets: ReadonlyMap<string, MirrorTarget>): readonly Finding[] {
  return followRules(mirrors).flatMap(({ table, columns, validity }) => {
    const there = targets.get(table)?.columns.map(({ name }) => name)
    const missing = [...columns, ...(validity || [])].filter((name) => there?.includes(name) === false)
    return missing.map((column) => ({
      code: 'LEFT_OUT' as const,
      table,
      message: `\`${table}\` does not have \`${column}\`, which its mirror names for notices: it leaves none`,
      hint: `Its columns: ${there?.join(', ')}.`,
    }))
  })
}
