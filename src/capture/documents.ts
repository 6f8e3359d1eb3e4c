import { hash } from 'node:crypto'
import { hashedLine } from '../comparison.ts'
import { asTillsyncError, TillsyncError } from '../errors.ts'
import type { Touch } from '../ports.ts'
import { type Key, lookup, pause, query, type Statement, type Work } from '../work.ts'
import { type CapturePlan, MANY, RECORD_ID, type Resolver } from './plan.ts'
import type { RootPlan, TablePlan } from './table-plan.ts'

/** A document as it stands: its records, header first. */
export interface ReadDocument {
  readonly records: readonly ReadRecord[]
  /** Over all records and what in them is not a column's initial value; equal hashes are equal documents. */
  readonly hash: Buffer
  /** Over the identity columns, behind a mark of which those are; null where the rules name none. */
  readonly identity: Buffer | null
}

export interface ReadRecord {
  readonly table: string
  readonly recordId: string
  readonly record: string
}

/** A document that touches lead to. */
export interface TouchedDocument {
  readonly root: RootPlan
  readonly recordId: string
  /** Empty where it can't be one of the table's, so that there is no such document. */
  key: Key
  exported: boolean
  /** It is sealed though it has not changed, unless it is withheld. */
  again: boolean
  /** It stood there when its table began to be published. */
  existing: boolean
  /** Somebody has written it, or asked for it; otherwise it is only compared. */
  changed: boolean
}

/** What a key looks like as a record id. */
export function recordIdText(plan: TablePlan, key: Key): string {
  return `[${plan.keyAt.map((at, n) => plan.encode[at]?.(key[n]) ?? 'null').join(',')}]`
}

/** A touch on its way to its document, with its place among the touches. */
interface Step {
  readonly at: number
  readonly touch: Touch
}

/** What touches lead to. */
export interface Touched {
  /** By table and record id, in the order of their first touch. */
  readonly documents: ReadonlyMap<string, TouchedDocument>
  /** Roots of which any record may have changed, more than are looked for one by one, or some that can't be read now. */
  readonly whole: ReadonlySet<string>
}

/** Touches of tables that the rules no longer name lead nowhere. */
export function* documentsTouched(plan: CapturePlan, touches: readonly Touch[]): Work<Touched> {
  const arrived: (Step & { readonly root: RootPlan })[] = []
  const whole = rootsTouchedWhole(plan, touches)
  const read = plan.unread.size === 0 ? touches : touches.filter((touch) => !plan.unread.has(rootOf(plan, touch)?.table ?? ''))
  for (let steps: readonly Step[] = read.map((touch, at) => ({ at, touch })); steps.length > 0; ) steps = yield* climb(plan, steps, arrived, whole)
  const documents = new Map<string, TouchedDocument>()
  let sincePause = 0
  for (const { root, touch } of arrived.sort((a, b) => a.at - b.at)) {
    if (++sincePause % (4 * PAUSE_AFTER) === 0) yield* pause()
    add(documents, root, touch)
  }
  return { documents, whole }
}

/** One step up for all; answers those that have not arrived at a root. */
function* climb(
  plan: CapturePlan,
  steps: readonly Step[],
  arrived: (Step & { readonly root: RootPlan })[],
  whole: Set<string>,
): Work<readonly Step[]> {
  const higher: Step[] = []
  for (const [resolver, group] of Map.groupBy(steps, ({ touch }) => plan.resolver(touch.table, touch.refers))) {
    if (resolver?.kind === 'root') for (const step of group) if (step.touch.kind !== 'whole') arrived.push({ ...step, root: resolver.root })
    if (resolver === undefined || resolver.kind === 'root') continue
    const asked = group.filter(({ touch }) => touch.kind !== 'whole' && !touch.key.includes(null))
    const found = yield* findAbove(
      resolver.find,
      asked.map(({ touch }) => touch.key),
    )
    if (found === undefined) whole.add(rootAbove(plan, resolver).table)
    for (const [n, { at, touch }] of found === undefined ? [] : asked.entries()) {
      const keys = found?.[n] ?? []
      if (keys.length > MANY) whole.add(rootAbove(plan, resolver).table)
      else
        for (const key of keys) {
          if (resolver.kind === 'search') arrived.push({ at, touch: { ...touch, key }, root: resolver.root })
          else higher.push({ at, touch: { ...touch, ...resolver.to, key } })
        }
    }
  }
  return higher
}

/** Undefined where a key is no value of its column: the column's type was changed after the touch. */
function* findAbove(find: Statement, keys: readonly Key[]): Work<readonly (readonly Key[])[] | undefined> {
  try {
    return yield* lookup(find, keys)
  } catch (error) {
    if (error instanceof TillsyncError && error.code === 'ERR_FILTER') return undefined
    throw error
  }
}

function rootsTouchedWhole(plan: CapturePlan, touches: readonly Touch[]): Set<string> {
  const roots = new Set<string>()
  for (const touch of touches) {
    const root = touch.kind === 'whole' || plan.unread.size > 0 ? rootOf(plan, touch) : undefined
    if (root !== undefined && (touch.kind === 'whole' || plan.unread.has(root.table))) roots.add(root.table)
  }
  return roots
}

function rootOf(plan: CapturePlan, { table, refers }: Touch): RootPlan | undefined {
  const resolver = plan.resolver(table, refers)
  return resolver && rootAbove(plan, resolver)
}

function rootAbove(plan: CapturePlan, resolver: Resolver): RootPlan {
  if (resolver.kind !== 'climb') return resolver.root
  return rootAbove(plan, plan.resolver(resolver.to.table, resolver.to.refers) as Resolver)
}

function add(found: Map<string, TouchedDocument>, root: RootPlan, touch: Touch): void {
  const hasKey = touch.refers[0] !== RECORD_ID[0]
  const recordId = hasKey ? recordIdText(root, touch.key) : String(touch.key[0])
  const name = `${root.table}\n${recordId}`
  const known = found.get(name)
  const document = known ?? { root, recordId, key: hasKey ? touch.key : [], exported: false, again: false, existing: false, changed: false }
  if (hasKey) document.key = touch.key
  if (touch.kind !== 'compared') document.changed = true
  if (touch.kind === 'exported') document.exported = true
  if (touch.kind === 'again') document.again = true
  // Whoever changed it before that was seen: it has been published already, and somebody dropped sync_state.
  if (touch.kind === 'existing' && known === undefined) document.existing = true
  found.set(name, document)
}

/** What became of a document when it was read; `undefined`: it is gone, or outside the filter. */
export type Reading = ReadDocument | undefined | TillsyncError

/**
 * Reads documents of one root. One that can't be read or encoded comes back as its error and harms no other.
 */
export function* readDocuments(root: RootPlan, documents: readonly TouchedDocument[]): Work<readonly Reading[]> {
  const keyed = documents.filter(({ key }) => key.length > 0)
  if (keyed.length < documents.length) {
    const readings = yield* readDocuments(root, keyed)
    return documents.map((document) => readings[keyed.indexOf(document)])
  }
  try {
    refuseLongKeys(root, documents)
    yield* refuseMissingKeys(root, documents)
    return yield* readTogether(root, documents)
  } catch (error) {
    const failure = isTooLong(error) ? tooLong(root, error) : asTillsyncError(error, 'ERR_DATABASE', `Reading \`${root.table}\` failed`)
    if (!OF_ONE_DOCUMENT.includes(failure.code)) throw failure
    const [one] = documents as [TouchedDocument]
    if (documents.length === 1) return [failure.code === 'ERR_FILTER' && (yield* isNoKey(root, one)) ? undefined : failure]
    const readings: Reading[] = []
    for (const document of documents) readings.push(...(yield* readDocuments(root, [document])))
    return readings
  }
}

/** Whether it is not the filter that raises, but a key that is no value of its column: another type has come to it since. */
function* isNoKey(root: RootPlan, { key }: TouchedDocument): Work<boolean> {
  try {
    yield* lookup(root.identify, [key])
    return false
  } catch (error) {
    if (!(error instanceof TillsyncError) || error.retryable) throw error
    return true
  }
}

/** A lookup in which a key that raises finds nothing, and harms no other. */
export function* lookupEach(statement: Statement, keys: readonly Key[]): Work<readonly (readonly Key[])[]> {
  try {
    return yield* lookup(statement, keys)
  } catch (error) {
    if (!(error instanceof TillsyncError) || error.retryable) throw error
    if (keys.length === 1) return [[]]
    const found: (readonly Key[])[] = []
    for (const key of keys) found.push(...(yield* lookupEach(statement, [key])))
    return found
  }
}

/** A text longer than JavaScript has: 512 Mi UTF-16 units in V8 (https://nodejs.org/api/buffer.html#bufferconstantsmax_string_length). */
function isTooLong(error: unknown): boolean {
  return error instanceof Error && (error.message === 'Invalid string length' || (error as NodeJS.ErrnoException).code === 'ERR_STRING_TOO_LONG')
}

function tooLong(root: RootPlan, cause: unknown): TillsyncError {
  const hint = 'Change the record so that it is smaller, or leave columns out by `except`.'
  return new TillsyncError('ERR_TOO_LARGE', `A record of \`${root.table}\` is longer than a text can be. ${hint}`, {
    hint,
    context: { table: root.table },
    cause,
  })
}

const OF_ONE_DOCUMENT = ['ERR_FILTER', 'ERR_VALUE', 'ERR_NO_KEY', 'ERR_TOO_LARGE']

/** PostgreSQL's indexes take 2,704 bytes an entry, and head office's begin with the register and the table. */
export const LONGEST_RECORD_ID = 2_000

function refuseLongKeys(root: RootPlan, documents: readonly TouchedDocument[]): void {
  if (documents.every(({ recordId }) => 3 * recordId.length <= LONGEST_RECORD_ID || Buffer.byteLength(recordId) <= LONGEST_RECORD_ID)) return
  throw new TillsyncError('ERR_TOO_LARGE', `A record id of \`${root.table}\` has more than ${LONGEST_RECORD_ID} bytes`, {
    hint: 'Key documents by something shorter.',
    context: { table: root.table },
  })
}

function* refuseMissingKeys(root: RootPlan, documents: readonly TouchedDocument[]): Work<void> {
  if (!documents.some(({ key }) => key.includes(null))) return
  if ((yield* query(root.anyWithoutKey)).length === 0) return
  throw withoutKey(root.table)
}

function withoutKey(table: string): TillsyncError {
  return new TillsyncError('ERR_NO_KEY', `A record of \`${table}\` has NULL in its key`, {
    hint: 'Declare the key columns NOT NULL.',
    context: { table },
  })
}

function* readTogether(root: RootPlan, documents: readonly TouchedDocument[]): Work<readonly Reading[]> {
  const found = yield* lookup(
    root.read,
    documents.map((document) => document.key),
  )
  // The database compares keys by its own collations; a document is the one whose key is equal to the bit.
  const headers = documents.map((document, n) => found[n]?.find((tuple) => recordIdOf(root, tuple) === document.recordId))
  const records: (HashedRecord[] | undefined)[] = headers.map((tuple) => tuple && [toRecord(root, tuple)])
  yield* addParts(
    root,
    headers.flatMap((tuple, document) => (tuple ? [{ document, tuple }] : [])),
    records,
  )
  return records.map((all, n) => all && finish(root, all, headers[n] as Key))
}

interface Owned {
  readonly document: number
  readonly tuple: Key
}

/** Records that are encoded in one go. */
const PAUSE_AFTER = 200

function* addParts(above: TablePlan, owners: readonly Owned[], records: (HashedRecord[] | undefined)[]): Work<void> {
  for (const part of above.parts) {
    const found = yield* lookup(
      part.read,
      owners.map(({ tuple }) => part.parentAt.map((at) => tuple[at])),
    )
    const owned: Owned[] = []
    let sincePause = 0
    for (const [n, tuples] of found.entries()) {
      const { document } = owners[n] as Owned
      for (const tuple of tuples) {
        if (++sincePause % PAUSE_AFTER === 0) yield* pause()
        records[document]?.push(toRecord(part, tuple))
        if (part.parts.length > 0) owned.push({ document, tuple })
      }
    }
    yield* addParts(part, owned, records)
  }
}

/** The record id of a tuple that `read` answered. */
export function recordIdOf(plan: TablePlan, tuple: Key): string {
  return recordIdText(
    plan,
    plan.keyAt.map((at) => tuple[at]),
  )
}

/**
 * Documents that touches meant though they wrote the key otherwise: a part may refer to the key 1 by the text '1', or to 'abc'
 * by 'ABC' where the column's collation lets it. Looked for where nothing was read under the key as written.
 */
export function* otherwiseWritten(
  touched: ReadonlyMap<string, TouchedDocument>,
  readings: ReadonlyMap<TouchedDocument, Reading>,
): Work<readonly TouchedDocument[]> {
  const others = new Map<string, TouchedDocument>()
  const unread = [...touched.values()]
    .filter(({ key }) => key.length > 0 && !key.includes(null))
    .filter((document) => readings.get(document) === undefined)
  for (const [root, documents] of Map.groupBy(unread, (document) => document.root)) {
    const found = yield* lookupEach(
      root.identify,
      documents.map((document) => document.key),
    )
    for (const [n, keys] of found.entries()) {
      for (const key of keys) {
        const recordId = recordIdText(root, key)
        const name = `${root.table}\n${recordId}`
        if (!touched.has(name) && !key.includes(null)) others.set(name, { ...(documents[n] as TouchedDocument), recordId, key })
      }
    }
  }
  return [...others.values()]
}

/** A record with what counts for the hash of its document. */
interface HashedRecord extends ReadRecord {
  readonly content: string
}

function toRecord(plan: TablePlan, tuple: Key): HashedRecord {
  const { encode, prefixes, hashed } = plan
  if (plan.keyAt.some((at) => tuple[at] === null)) throw withoutKey(plan.table)
  const values: string[] = []
  let record = ''
  // Plain loops: this is run for every value that is ever sealed.
  for (let at = 0; at < encode.length; at++) {
    const value = (encode[at] as (value: unknown) => string)(tuple[at])
    values.push(value)
    record += prefixes[at] + value
  }
  let content = ''
  for (const { at, prefix, initial } of hashed) if (values[at] !== initial) content += `${prefix}${values[at]},`
  return { table: plan.table, recordId: recordIdOf(plan, tuple), record: `${record}}`, content }
}

function finish(root: RootPlan, records: readonly HashedRecord[], header: Key): ReadDocument {
  let text = ''
  for (const { table, recordId, content } of records) text += hashedLine(table, recordId, content)
  return { records, hash: hash('sha256', text, 'buffer'), identity: identityHash(root, header) }
}

function identityHash(root: RootPlan, header: Key): Buffer | null {
  if (root.identityAt.length === 0) return null
  const mark = hash('sha256', JSON.stringify(root.spec.identity), 'buffer').subarray(0, IDENTITY_MARK)
  return Buffer.concat([mark, hash('sha256', root.identityAt.map((at) => root.encode[at]?.(header[at])).join(','), 'buffer')])
}

/** Bytes that say which columns an identity is over. */
const IDENTITY_MARK = 4

/** Whether two identities are over the same columns; others do not tell whether it is another document. */
export function areComparable(a: Uint8Array | null, b: Uint8Array | null): boolean {
  if (a === null || b === null) return a === b
  return Buffer.compare(a.subarray(0, IDENTITY_MARK), b.subarray(0, IDENTITY_MARK)) === 0
}
