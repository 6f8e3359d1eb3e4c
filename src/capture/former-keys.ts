import { sql } from 'kysely'
import type { CapturingDatabase } from '../ports.ts'
import { writtenMembers } from '../record.ts'
import { SOURCES } from '../touch-sources.ts'
import { lookup, query, type Work } from '../work.ts'
import type { ReadDocument, TouchedDocument } from './documents.ts'
import { pendingReseals } from './reseal.ts'
import type { RootPlan } from './table-plan.ts'
import { WITHHELD } from './tables.ts'
import { keyedAnew, readWithheld, type Withheld } from './withheld.ts'

/** A document that nobody knows under its key. */
export interface UnknownDocument {
  readonly document: TouchedDocument
  readonly now: ReadDocument
}

/** What is withheld under a former key, as if it had been withheld under the present one. */
export interface FormerMember {
  readonly recordId: string
  readonly withheld: Withheld
}

/** Finds documents that are withheld under the key that their table had before the host gave it another one. */
export class FormerKeys {
  private readonly database: CapturingDatabase
  private resealing: readonly string[] | undefined
  private keys: ReadonlyMap<string, readonly (readonly string[])[]> | undefined

  constructor(database: CapturingDatabase) {
    this.database = database
  }

  *find(unknown: readonly UnknownDocument[]): Work<ReadonlyMap<TouchedDocument, FormerMember>> {
    const found = new Map<TouchedDocument, FormerMember>()
    const asked: (UnknownDocument & Candidate)[] = []
    for (const one of unknown)
      if (yield* this.isDue(one.document)) for (const candidate of yield* this.candidates(one)) asked.push({ ...one, ...candidate })
    if (asked.length === 0) return found
    const rows = yield* lookup(
      this.database.build
        .selectFrom(WITHHELD.name)
        .select('records')
        .where(sql.raw<boolean>(this.database.keyed(WITHHELD, WITHHELD.primaryKey)))
        .compile(),
      asked.map(({ document, recordId }) => [document.root.table, recordId]),
    )
    for (const [n, { document, now, recordId, columns }] of asked.entries()) {
      const [row] = rows[n] ?? []
      const withheld = row && readWithheld(row[0] as string)
      const header = withheld && writtenMembers(withheld.records[0]?.record ?? '{}')
      if (withheld === undefined || header === undefined || JSON.stringify(withheld.key) !== JSON.stringify(columns)) continue
      if (idOf(header, columns) !== recordId || isAnother(document.root, header, now)) continue
      found.set(document, { recordId, withheld: keyedAnew(document.root, withheld, now.records) })
    }
    return found
  }

  /** A key becomes another while its table is resealed only. */
  private *isDue({ changed, root }: TouchedDocument): Work<boolean> {
    if (!changed) return true
    this.resealing ??= yield* pendingReseals(this.database)
    return this.resealing.includes(root.table)
  }

  /** By the columns that touches have named records of the table by, of which a former key is one; the key's own values may be written otherwise since it is of another type. */
  private *candidates({ document: { root, recordId }, now }: UnknownDocument): Work<readonly Candidate[]> {
    this.keys ??= yield* this.readKeys()
    const header = writtenMembers(now.records[0]?.record as string)
    return (this.keys.get(root.table) ?? []).flatMap((columns) => {
      const values = columns.map((name) => header.get(name))
      if (values.includes(undefined)) return []
      const ids = new Set(SPELLINGS.map((spell) => `[${(values as string[]).map(spell).join(',')}]`))
      ids.delete(recordId)
      return [...ids].map((id) => ({ recordId: id, columns }))
    })
  }

  private *readKeys(): Work<ReadonlyMap<string, readonly (readonly string[])[]>> {
    const { build } = this.database
    const rows = yield* query<{ table_name: string; refers: string }>(build.selectFrom(SOURCES.name).select(['table_name', 'refers']).compile())
    const keys = new Map<string, string[][]>()
    for (const { table_name, refers } of rows) keys.set(table_name, [...(keys.get(table_name) ?? []), JSON.parse(refers) as string[]])
    return keys
  }
}

interface Candidate {
  readonly recordId: string
  readonly columns: readonly string[]
}

/** Under which a document was withheld, if these columns were its key. */
function idOf(header: ReadonlyMap<string, string>, columns: readonly string[]): string {
  return `[${columns.map((name) => header.get(name)).join(',')}]`
}

function isAnother({ spec }: RootPlan, was: ReadonlyMap<string, string>, { records }: ReadDocument): boolean {
  const is = writtenMembers(records[0]?.record as string)
  return spec.identity.some((name) => was.has(name) && was.get(name) !== is.get(name))
}

/** A value as it is, and a whole number as types write it: as an integer, a text, a double. */
const SPELLINGS: readonly ((value: string) => string)[] = [
  (value) => value,
  ...[(whole: string) => whole, (whole: string) => `"${whole}"`, (whole: string) => `${whole}.0`].map((spell) => (value: string) => {
    const whole = /^"?(-?\d+)(?:\.0+)?"?$/.exec(value)?.[1]
    return whole === undefined ? value : spell(whole)
  }),
]
