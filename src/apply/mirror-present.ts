import { TillsyncError } from '../errors.ts'
import type { PartShape } from '../model.ts'
import { query, type Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import { type MirrorSet, recordsOf } from './mirror-set.ts'
import { ARCHIVE, DOCUMENTS, LIVES } from './tables.ts'

/** The documents of a set that are to be there. Those are left out whole of which another document has a part, where that one is to keep it, see `ApplyContext`. */
export function* presentIn(set: MirrorSet): Work<readonly AppliedDocument[]> {
  const present = set.documents.filter(({ removed }) => !removed)
  const { late, overtaken } = set.context
  if (!late && overtaken !== 'leave') return present
  const out = late ? yield* misfits(set, present) : yield* overtakenOf(set, present)
  return out.size === 0 ? present : present.filter((document) => !out.has(document))
}

/** Of documents that waited none takes a part back from one that has come since. @throws ERR_KEY_TAKEN */
export function* refuseOvertaken(set: MirrorSet): Work<void> {
  const [one] = yield* overtakenOf(
    set,
    set.documents.filter(({ removed }) => !removed),
  )
  if (one === undefined) return
  throw new TillsyncError('ERR_KEY_TAKEN', "A part of it is another document's by now, which has come since", {
    hint: 'Its own newer version is on its way, and is tried when it comes.',
    context: { table: one.table },
  })
}

/** Documents of a set of which a part stands in the mirror as another document's. */
function* misfits(set: MirrorSet, documents: readonly AppliedDocument[]): Work<ReadonlySet<AppliedDocument>> {
  if (documents.length === 0 || (yield* fit(set, documents))) return new Set()
  if (documents.length === 1) return new Set(documents)
  const middle = Math.ceil(documents.length / 2)
  const [first, second] = [yield* misfits(set, documents.slice(0, middle)), yield* misfits(set, documents.slice(middle))]
  return first.union(second)
}

/** Those of them that are older than the version by which the other document has the part: how they stand here, nothing stands at the till any more. */
function* overtakenOf(set: MirrorSet, documents: readonly AppliedDocument[]): Work<ReadonlySet<AppliedDocument>> {
  const overtaken = new Set<AppliedDocument>()
  for (const document of yield* misfits(set, documents)) if (yield* isOvertaken(set, document)) overtaken.add(document)
  return overtaken
}

function* fit(set: MirrorSet, documents: readonly AppliedDocument[]): Work<boolean> {
  const records = recordsOf(documents)
  for (const { table: name, columns } of partsOf(documents)) {
    const table = set.table(name)
    if (table.rows === 'update') continue
    const { key } = table
    const joints = Object.keys(columns)
      .map((column) => table.nameOf(column))
      .filter((name) => !Object.hasOwn(table.constants, name))
    const parts = table.sent([...new Set([...key, ...joints])], records.get(name) ?? [])
    const found = (by: readonly string[]) =>
      set.mirroring.strays(table.found([], []), Object.fromEntries(by.map((column) => [column, column])), parts, [])
    const there = yield* found(key)
    if (there.length > 0 && (yield* found([...key, ...joints])).length < there.length) return false
  }
  return true
}

function partsOf(documents: readonly AppliedDocument[]): readonly PartShape[] {
  const all = (shape: readonly PartShape[]): readonly PartShape[] => shape.flatMap((part) => [part, ...all(part.parts)])
  return all([...new Set(documents.map(({ shape }) => shape))].flat())
}

/** Read from the archive onwards from the document's own entries: only where a part is another's nobody else could say which of the two is newer. */
function* isOvertaken(set: MirrorSet, { table, recordId, entries }: AppliedDocument): Work<boolean> {
  const { database, origin } = set.context
  const [archive, documents, lives] = [ARCHIVE, DOCUMENTS, LIVES].map(({ name }) => database.qualify(name))
  const parts = entries.slice(1)
  const stands = (alias: string) =>
    `${alias}.register_id = $1 AND ${alias}.table_name = r.table_name AND ${alias}.record_id = r.record_id
     AND ${alias}.epoch_no = a.epoch_no AND a.entry_no >= ${alias}.entry_no AND a.entry_no < ${alias}.entry_no + ${alias}.entries`
  const [row] = yield* query<{ overtaken: boolean }>({
    sql: `WITH later AS MATERIALIZED (
            SELECT a.epoch_no, a.entry_no, a.document_no FROM ${archive} a JOIN (SELECT DISTINCT * FROM unnest($4::text[], $5::text[])) AS s(table_name, record_id)
              ON s.table_name = a.table_name AND s.record_id = a.record_id
            WHERE a.register_id = $1 AND (a.epoch_no, a.entry_no) > ($2::bigint, $3::bigint) AND a.operation = 'upsert')
          SELECT EXISTS (
            SELECT FROM later a CROSS JOIN LATERAL (SELECT * FROM ${archive} r WHERE r.register_id = $1 AND r.epoch_no = a.epoch_no AND r.entry_no = a.document_no OFFSET 0) r
            WHERE (r.table_name, r.record_id) <> ($6, $7)
              AND (EXISTS (SELECT FROM ${documents} d WHERE ${stands('d')} AND d.state IS DISTINCT FROM 'lost')
                OR EXISTS (SELECT FROM ${lives} l JOIN ${documents} d USING (register_id, table_name, record_id, incarnation) WHERE ${stands('l')} AND d.removed))) AS overtaken`,
    parameters: [
      origin.registerId,
      origin.epochNo,
      entries.at(-1)?.entryNo ?? 0,
      parts.map((part) => part.table),
      parts.map((part) => part.recordId),
      table,
      recordId,
    ],
  })
  return row?.overtaken ?? false
}
