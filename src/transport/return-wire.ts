import { type AudienceRecord, MAX_NAME, type SentBack, type TakenBack } from '../model.ts'
import { count, list, malformed, object, text, tuple } from './fields.ts'
import { partShapes } from './shapes.ts'

const LONG = Number.POSITIVE_INFINITY

/** A document that goes back to the register that has lost it, as it goes over the wire. */
export function sentBackToWire({ id, table, recordId, keyColumns, shape, records }: SentBack): unknown {
  return { id, table, recordId, keyColumns, shape, records: records.map((one) => [one.table, one.recordId, one.record]) }
}

/** @throws ERR_MESSAGE */
export function sentBackFromWire(wire: unknown): SentBack {
  const fields = object(wire, 'back')
  const [table, recordId] = [text(fields.table, 'back', MAX_NAME), text(fields.recordId, 'back', LONG)]
  const records = list(fields.records, 'back').map((one): AudienceRecord => {
    const [of, id, record] = tuple(one, 'back', 3)
    return { table: text(of, 'back', MAX_NAME), recordId: text(id, 'back', LONG), record: text(record, 'back', LONG) }
  })
  if (records[0]?.table !== table || records[0].recordId !== recordId) throw malformed('back')
  return {
    id: count(fields.id, 'back'),
    table,
    recordId,
    keyColumns: list(fields.keyColumns, 'back').map((column) => text(column, 'back', MAX_NAME)),
    shape: partShapes(fields.shape, 1),
    records,
  }
}

/** What became of it at the register. */
export function takenBackToWire({ id, refused }: TakenBack): unknown {
  return refused === undefined ? [id] : [id, refused.code, refused.message.replaceAll('\0', '\ufffd').slice(0, 1_000) || refused.code]
}

/** @throws ERR_MESSAGE */
export function takenBackFromWire(wire: unknown): TakenBack {
  const parts = list(wire, 'back')
  const id = count(parts[0], 'back')
  if (parts.length === 1) return { id }
  const [, code, message] = tuple(wire, 'back', 3)
  const refused = { code: text(code, 'back', 64), message: text(message, 'back', 1_000) }
  if (`${refused.code}${refused.message}`.includes('\0')) throw malformed('back')
  return { id, refused }
}
