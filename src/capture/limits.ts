import { defaultTakes } from '../central-options.ts'
import { TillsyncError } from '../errors.ts'
import { readState, writeState } from '../migrate.ts'
import type { Takes } from '../model.ts'
import type { Database } from '../ports.ts'
import type { Work } from '../work.ts'
import type { ReadRecord } from './documents.ts'

const TAKES = 'takes'
/** What a message holds beside its entries, and what it may grow by where nothing in it can be compressed. */
const SPARE_BYTES = 4_096
const SPARE_SHARE = 0.25
/** What an entry takes on the wire beside its record and its record id. */
const ENTRY_BYTES = 48
/** A text has no more of them in UTF-8 for each of its UTF-16 units. */
const UNIT_BYTES = 3

/** What central takes at most, as it last said; before that, as it does unless it is told otherwise. */
export function* readTakes(database: Database): Work<Takes> {
  const known = yield* readState(database, TAKES)
  return known === undefined ? defaultTakes() : (JSON.parse(known) as Takes)
}

export function writeTakes({ message, document }: Takes): Work<void> {
  return writeState(TAKES, JSON.stringify({ message, document }))
}

/** How many bytes of entries fit into a message. */
export function roomIn({ message }: Takes): number {
  return Math.floor(message * (1 - SPARE_SHARE)) - SPARE_BYTES
}

/** Bytes of an entry, about as they go over the wire. */
export function bytesOf({ recordId, record }: { readonly recordId: string; readonly record: string | null }): number {
  return Buffer.byteLength(recordId) + (record === null ? 0 : Buffer.byteLength(record)) + ENTRY_BYTES
}

/** Why records of a document can't be sent; undefined where they can. One record goes into one message, all together into what central holds for a document. */
export function tooLarge(root: string, records: readonly ReadRecord[], takes: Takes): TillsyncError | undefined {
  const room = roomIn(takes)
  // Most documents are far from it; to count the bytes of all would be a part of sealing that can be felt.
  let most = 0
  for (const { recordId, record } of records) most += (recordId.length + record.length) * UNIT_BYTES + ENTRY_BYTES
  if (most <= Math.min(room, takes.document)) return undefined
  let total = 0
  for (const record of records) {
    const bytes = bytesOf(record)
    if (bytes > room) return refused(`A record of \`${record.table}\` has ${bytes} bytes`, room, 'maxMessageBytes')
    total += bytes
  }
  return total > takes.document ? refused(`A document of \`${root}\` has ${total} bytes`, takes.document, 'maxDocumentBytes') : undefined
}

function refused(what: string, limit: number, option: string): TillsyncError {
  const hint = `Change the record so that it is smaller, or leave columns out by \`except\`; or raise \`${option}\` at central.`
  return new TillsyncError('ERR_TOO_LARGE', `${what}; central takes ${limit}. ${hint}`, { hint, context: { limit } })
}
