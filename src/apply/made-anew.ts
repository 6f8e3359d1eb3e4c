import { sql } from 'kysely'
import { readState, writeState } from '../migrate.ts'
import type { RegisterDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { tablesOf } from './document-set.ts'
import type { HandlersByTable } from './handler.ts'
import { receivedBehind } from './received-documents.ts'
import { targetOf } from './subscribed-mirrors.ts'
import type { Outlook } from './subscription-outlook.ts'
import type { Place } from './subscription-standing.ts'

/** By this key it is kept how the tables stood that central's rows are written to, when they were last looked at. */
const STOOD = 'subscribed.stood'
/** And of which tables of parts records have come: others may be empty. */
const CAME = 'subscribed.came'

/** How the tables stand: another text where one of them was altered or made anew. */
export function versionsOf({ targets }: Outlook): string {
  return JSON.stringify([...targets].map(([name, { version }]) => [name, version]).toSorted())
}

/**
 * The places of which a table was altered or made anew since it was last looked at, by whichever process, and is empty though central has sent documents: it has lost them. One that was copied over has not, and what the host
 * deletes from a table that stays is the host's affair. Undefined where all stand as they stood.
 */
export function* emptied(database: RegisterDatabase, mirrors: HandlersByTable, outlook: Outlook): Work<readonly Place[] | undefined> {
  const { places, targets } = outlook
  const stood = yield* readState(database, STOOD)
  if (stood === undefined) return []
  if (stood === versionsOf(outlook)) return undefined
  const versions = new Map(JSON.parse(stood) as [string, string][])
  const came = yield* readCame(database)
  const found: Place[] = []
  for (const place of places.values()) {
    const { table, rules, shape } = place
    const names = [table, ...tablesOf(shape).filter((part) => came.includes(part))].map((one) => targetOf(mirrors, table, one))
    const altered = names.filter((name) => targets.has(name) && versions.get(name) !== targets.get(name)?.version)
    if (rules === '' || altered.length === 0 || (yield* receivedBehind(database, table, '', 1)).length === 0) continue
    for (const name of altered) {
      if (!(yield* isEmpty(database, name))) continue
      found.push(place)
      break
    }
  }
  return found
}

function* isEmpty(database: RegisterDatabase, name: string): Work<boolean> {
  const rows = database.build.selectFrom(sql.raw(database.qualify(name)) as unknown as string).select(sql`1`.as('there'))
  return (yield* query(rows.limit(1).compile())).length === 0
}

/** So they stand by now. */
export function noteVersions(versions: string): Work<void> {
  return writeState(STOOD, versions)
}

/** Records of these tables of parts have come. */
export function* noteCame(database: RegisterDatabase, tables: readonly string[]): Work<void> {
  const came = yield* readCame(database)
  if (tables.some((table) => !came.includes(table))) yield* writeState(CAME, JSON.stringify([...new Set([...came, ...tables])]))
}

export function* readCame(database: RegisterDatabase): Work<readonly string[]> {
  return JSON.parse((yield* readState(database, CAME)) ?? '[]') as string[]
}
