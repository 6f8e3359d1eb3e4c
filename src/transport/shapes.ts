import { MAX_NAME, MOST_LEVELS, type PartShape } from '../model.ts'
import { list, malformed, object, text } from './fields.ts'

/** The parts of a root table. @throws ERR_MESSAGE */
export function partShapes(wire: unknown, depth: number): readonly PartShape[] {
  if (depth > MOST_LEVELS + 1) throw malformed('shapes')
  return list(wire, 'shapes').map((part) => {
    const fields = object(part, 'shapes')
    const columns = Object.entries(object(fields.columns, 'shapes')).map(([own, above]) => [
      text(own, 'shapes', MAX_NAME),
      text(above, 'shapes', MAX_NAME),
    ])
    return { table: text(fields.table, 'shapes', MAX_NAME), columns: Object.fromEntries(columns), parts: partShapes(fields.parts, depth + 1) }
  })
}
