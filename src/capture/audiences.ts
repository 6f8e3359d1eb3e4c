import { hash, randomBytes } from 'node:crypto'
import { type SelectQueryBuilder, sql } from 'kysely'
import { TillsyncError } from '../errors.ts'
import type { AnyTables, AudienceRegister } from '../model.ts'
import type { CapturingDatabase, PublishingDatabase } from '../ports.ts'
import { insert, type Key, lookup, pause, query, type Statement, type Work } from '../work.ts'
import type { AudienceSpec } from './audience-rules.ts'
import { AUDIENCE_MEMBERS, AUDIENCE_POINTS, AUDIENCES } from './audience-tables.ts'
import { LONGEST_RECORD_ID, recordIdText } from './documents.ts'
import { compileFilter, filterError, readableBy, refuseOthers } from './filters.ts'
import { behind, selectColumns } from './selects.ts'
import { storedParameters, storedStatement } from './stored-statement.ts'
import type { RootPlan } from './table-plan.ts'

type Select = SelectQueryBuilder<AnyTables, string, Record<string, unknown>>

/** The filter of a root table as it is for a register. */
export interface CompiledAudience {
  readonly root: RootPlan
  readonly filterHash: string
  /** The keys of all that is inside; and its parameters as JSON text. */
  readonly all: Statement
  readonly parameters: string
  /** The same by pages, in key order. */
  page(after: Key | undefined): Statement
}

/** An audience as it is stored. */
export interface Audience {
  readonly audience_id: number
  readonly table_name: string
  readonly stream: string
  readonly head_no: number
  readonly mark: string
  readonly floor_no: number
  readonly filter: string
}

/** Keys that are read in one statement. */
const PAGE = 1_000

/** @throws ERR_FILTER where the filter throws for this register, compares with undefined, or names a table that it may not read */
export function compileAudience(
  database: CapturingDatabase,
  root: RootPlan,
  { where, origin }: AudienceSpec,
  register: AudienceRegister,
): CompiledAudience {
  const { table, key } = root
  const readable = readableBy(root.spec)
  const filtered = (): Select => {
    let select = selectColumns(database, table, key)
    for (const name of origin) select = select.where(sql<boolean>`${sql.id(table, name)} = ${register[name as 'location' | 'register']}`)
    return where ? select.where((eb) => where(eb, register)) : select
  }
  const all = compileFilter(readable, filtered)
  const parameters = storedParameters(all.parameters)
  if (parameters === undefined) {
    throw new TillsyncError(
      'ERR_FILTER',
      `The filter of \`${table}\` compares with what is no value for ${register.register} at ${register.location}`,
      {
        hint: 'Is an attribute missing? registers.add({ location, register, attributes }) sets them, registers.change({ location, register }, { attributes }) later.',
        context: { table, location: register.location, register: register.register },
      },
    )
  }
  return {
    root,
    all,
    parameters,
    filterHash: hash('sha256', JSON.stringify([all.sql, parameters])),
    page: (after) => pageOf(filtered(), root, after),
  }
}

function pageOf(select: Select, { table, key }: RootPlan, after: Key | undefined): Statement {
  let page = select
  if (after !== undefined) page = page.where(behind(table, key, after))
  for (const name of key) page = page.orderBy(sql.id(table, name))
  return page.limit(PAGE).compile()
}

/** Asks for the keys of a lookup that are inside a stored filter. */
export function insideOf(database: CapturingDatabase, root: RootPlan, filter: string): Statement {
  const { sql, parameters } = storedStatement(filter)
  return { sql: `SELECT * FROM (${sql}) AS inside WHERE ${database.keyed(root.host, root.key)}`, parameters }
}

/**
 * Whether the filter runs, and reads nothing that the rules don't name, by whatever text or view. Changes nothing.
 *
 * @throws ERR_FILTER
 */
export function* tryAudience(database: CapturingDatabase, { root, all, parameters }: CompiledAudience): Work<void> {
  const inside = insideOf(database, root, filterText(all, parameters))
  const read = new Set<string>()
  try {
    yield* lookup(inside, [root.key.map(() => null)])
    for (const { table } of yield* database.inspect(inside, root.key.length)) read.add(table)
  } catch (error) {
    throw filterError(root.table, 'does not run', error)
  }
  read.delete(root.table)
  refuseOthers(readableBy(root.spec), read)
}

/** Whether the stored filter of an audience names its documents by the key that the table has now. */
export function isKeyedAs(database: CapturingDatabase, { table, key }: RootPlan, { filter }: Audience): boolean {
  const { sql } = selectColumns(database, table, key).compile()
  return storedStatement(filter).sql === sql || storedStatement(filter).sql.startsWith(`${sql} where `)
}

const COLUMNS = ['audience_id', 'table_name', 'stream', 'head_no', 'mark', 'floor_no', 'filter'] as const

/** All audiences of these tables. */
export function* readAudiences(database: CapturingDatabase, tables: readonly string[]): Work<readonly Audience[]> {
  if (tables.length === 0) return []
  return yield* query<Audience>(
    database.build
      .selectFrom(AUDIENCES.name)
      .select([...COLUMNS])
      .where('table_name', 'in', tables)
      .orderBy('audience_id')
      .compile(),
  )
}

/** Those of these audiences that are there. */
export function* audiencesAt(database: CapturingDatabase, ids: readonly number[]): Work<ReadonlyMap<number, Audience>> {
  if (ids.length === 0) return new Map()
  const rows = yield* query<Audience>(
    database.build
      .selectFrom(AUDIENCES.name)
      .select([...COLUMNS])
      .where('audience_id', 'in', ids)
      .compile(),
  )
  return new Map(rows.map((row) => [row.audience_id, row]))
}

export function* findAudience({ build }: CapturingDatabase, table: string, filterHash: string): Work<Audience | undefined> {
  const [row] = yield* query<Audience>(
    build
      .selectFrom(AUDIENCES.name)
      .select([...COLUMNS])
      .where('table_name', '=', table)
      .where('filter_hash', '=', filterHash)
      .compile(),
  )
  return row
}

/** Makes an audience with all that is inside its filter, in the caller's transaction, one after another with all that is sealed. */
export function* beginAudience(database: PublishingDatabase, compiled: CompiledAudience, at: string): Work<Audience> {
  const { root, filterHash, all, parameters } = compiled
  const known = yield* findAudience(database, root.table, filterHash)
  if (known !== undefined) return known
  yield* tryAudience(database, compiled)
  const stream = newName()
  const mark = newName()
  yield* insert(AUDIENCES, [[root.table, filterHash, filterText(all, parameters), stream, 0, mark, 0, at]])
  const audience = (yield* findAudience(database, root.table, filterHash)) as Audience
  return yield* moveHead(database, audience, yield* gather(database, compiled, audience), mark)
}

/** Puts all that is inside into a new audience. Returns the last entry. */
function* gather(database: PublishingDatabase, compiled: CompiledAudience, audience: Audience): Work<number> {
  const { root } = compiled
  let entryNo = 0
  let isSound = true
  for (let after: Key | undefined; ; ) {
    const page = isSound ? compiled.page(after) : pageOf(selectColumns(database, root.table, root.key), root, after)
    const read = yield* unlessRaised(lookup(page, [[]]))
    if (read instanceof Error) {
      if (!isSound) throw read
      // For one of them at least: key by key it is found which.
      isSound = false
      continue
    }
    const [keys = []] = read
    const documents = keys
      .map((key) => ({ key, recordId: recordIdText(root, key) }))
      .filter(({ recordId }) => Buffer.byteLength(recordId) <= LONGEST_RECORD_ID)
    const inside = isSound ? undefined : (yield* evaluate(database, root, audience.filter, documents)).inside
    yield* insert(
      AUDIENCE_MEMBERS,
      documents.flatMap(({ recordId }) => (inside?.has(recordId) === false ? [] : [[audience.audience_id, recordId, ++entryNo, false]])),
    )
    yield* pause()
    after = keys.at(-1)
    if (keys.length < PAGE) return entryNo
  }
}

/** Which of the documents are inside a filter, and for which it raises an error. */
export interface Evaluated {
  readonly inside: ReadonlySet<string>
  readonly failed: ReadonlyMap<string, TillsyncError>
}

/** Fewer documents than so many are not looked for at a time because a filter is slow: one that takes too long for these is too slow. */
const FEW = 50
/** So much less is tried where it took too long. */
const LESS = 10

/**
 * By a filter that takes long, fewer at a time. Throws what cancels a statement where that does not help, be it that few took too long twice: once may be the server's doing.
 */
export function* evaluate(
  database: PublishingDatabase,
  root: RootPlan,
  filter: string,
  documents: readonly { readonly key: Key; readonly recordId: string }[],
): Work<Evaluated> {
  const statement = insideOf(database, root, filter)
  const inside = new Set<string>()
  const failed = new Map<string, TillsyncError>()
  let [most, isSecond] = [documents.length, false]
  for (let at = 0, size = most; at < documents.length; ) {
    const some = documents.slice(at, at + size)
    const keys = some.map(({ key }) => key)
    const found = yield* unlessRaised(isSecond && some.length <= FEW ? lookup(statement, keys) : unlessCancelled(database, lookup(statement, keys)))
    isSecond = found === 'cancelled'
    if (found === 'cancelled') {
      most = Math.min(some.length, Math.max(FEW, Math.ceil(some.length / LESS)))
      size = most
      continue
    }
    if (found instanceof TillsyncError) {
      if (some.length === 1) failed.set((some[0] as { recordId: string }).recordId, found)
      size = Math.ceil(size / 2)
      if (some.length > 1) continue
    } else {
      // The database compares keys by its own collations; a document is the one whose key is equal to the bit.
      for (const [n, { recordId }] of some.entries()) if (found[n]?.some((key) => recordIdText(root, key) === recordId)) inside.add(recordId)
      size = Math.min(most, size * 2)
    }
    at += some.length
  }
  return { inside, failed }
}

function* unlessCancelled<T>({ faultOf }: Pick<PublishingDatabase, 'faultOf'>, work: Work<T>): Work<T | 'cancelled'> {
  try {
    return yield* work
  } catch (error) {
    if (faultOf(error) === 'cancelled') return 'cancelled'
    throw error
  }
}

/** What a filter of the host's raises is no end of the transaction. */
function* unlessRaised<T>(work: Work<T>): Work<T | TillsyncError> {
  try {
    return yield* work
  } catch (error) {
    if (error instanceof TillsyncError && error.code === 'ERR_FILTER') return error
    throw error
  }
}

/** Ends a slice of an audience's stream. */
export function* moveHead(database: CapturingDatabase, audience: Audience, entryNo: number, mark = newName()): Work<Audience> {
  const { audience_id } = audience
  yield* insert(AUDIENCE_POINTS, [[audience_id, entryNo, mark]], AUDIENCE_POINTS.primaryKey)
  yield* query(database.build.updateTable(AUDIENCES.name).set({ head_no: entryNo, mark }).where('audience_id', '=', audience_id).compile())
  return { ...audience, head_no: entryNo, mark }
}

/** What is kept of a filter: SQL and parameters in one text. */
function filterText({ sql }: Statement, parameters: string): string {
  return JSON.stringify([sql, JSON.parse(parameters)])
}

function newName(): string {
  return randomBytes(12).toString('base64url')
}
