import { encodeText, keyRecord, writtenMembers } from '../record.ts'
import type { Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import type { MirrorSet } from './mirror-set.ts'
import type { MirrorTable } from './mirror-table.ts'

/** The values of a key as JSON texts, in the order in which the sender has its columns. */
type KeyTexts = readonly string[]

/**
 * Of rows that were found by the keys of removed documents those that go. To the target's collation a key may be equal to that of another document, which came in
 * another batch and has taken the row over: what is written there is its key, and it stands. So may a key be that its sender writes otherwise since a column is of another type.
 */
export function* withoutTakenOver(
  set: MirrorSet,
  table: MirrorTable,
  found: readonly string[],
  removed: readonly AppliedDocument[],
): Work<readonly string[]> {
  const [first] = removed
  const { stands } = set.context
  if (first === undefined || stands === undefined || found.length === 0) return found
  const columns = first.keyColumns.map((name) => table.nameOf(name))
  const keys = removed.map(({ keyColumns, recordId }) => textsOf(keyRecord(keyColumns, recordId), keyColumns))
  const own = new Set(keys.map((key) => nameOf(key.map(plain))))
  const written = new Set(removed.map(({ recordId }) => recordId))
  // Keys that differ in their texts only can be equal to a collation.
  const kinds = [...new Map(keys.map((key) => [nameOf(key.map((text) => (isText(text) ? '"' : text))), key])).values()]
  const candidates = found.flatMap((row) => {
    const key = textsOf(row, columns)
    const ids = own.has(nameOf(key.map(plain))) ? otherTypes(key).filter((id) => !written.has(id)) : kinds.flatMap((kind) => likeOf(kind, key) ?? [])
    return ids.map((recordId) => [row, recordId] as const)
  })
  if (candidates.length === 0) return found
  const standing = yield* stands(
    first.table,
    candidates.map(([, recordId]) => recordId),
  )
  const kept = new Set(candidates.flatMap(([row, recordId]) => (standing.has(recordId) ? [row] : [])))
  return kept.size === 0 ? found : found.filter((row) => !kept.has(row))
}

/** The record id that a row has, written as another one of its table is; undefined where they differ in more than text. */
function likeOf(kind: KeyTexts, key: KeyTexts): string | undefined {
  const values = kind.map((text, n) => (isText(text) ? encodeText(plain(key[n] as string)) : plain(key[n] as string) === text ? text : undefined))
  return values.includes(undefined) ? undefined : `[${values.join(',')}]`
}

/** A record id with numbers as texts, and texts as numbers. */
function otherTypes(key: KeyTexts): readonly string[] {
  let ids: readonly string[] = ['']
  for (const text of key) {
    const value = plain(text)
    const ways = /^-?\d+$/.test(value) ? [value, encodeText(value)] : [text]
    ids = ids.length > MOST_WAYS ? ids.map((id) => `${id},${text}`) : ids.flatMap((id) => ways.map((way) => `${id},${way}`))
  }
  return ids.map((id) => `[${id.slice(1)}]`)
}

/** Of keys of many columns not all ways are looked at. */
const MOST_WAYS = 16

function textsOf(record: string, columns: readonly string[]): KeyTexts {
  const members = writtenMembers(record)
  return columns.map((name) => members.get(name) ?? 'null')
}

function isText(text: string): boolean {
  return text.startsWith('"')
}

/** A database writes all values as text, or each as what it is. */
function plain(text: string): string {
  return isText(text) ? JSON.parse(text) : text
}

function nameOf(key: readonly string[]): string {
  return JSON.stringify(key)
}
