const INT8 = 20
const BYTEA = 17
const BOOL = 16
const TEXT_ARRAYS = [1009, 1003]
/** Values as the library reads them, whatever parsers the host has registered with `pg` or its pool: 64-bit counts as numbers, all else as text. */
export const OWN_TYPES = {
  getTypeParser(oid: number): (value: string) => unknown {
    if (oid === INT8 || oid === 23 || oid === 21) return Number
    if (oid === BOOL) return (value) => value === 't'
    if (oid === BYTEA) return toBytes
    if (TEXT_ARRAYS.includes(oid)) return parseNames
    return (value) => value
  },
}

/** What lookups answer: texts, exactly as PostgreSQL writes them. */
export const EXACT = {
  getTypeParser: (oid: number): ((value: string) => unknown) => (oid === BYTEA ? toBytes : (value) => value),
}

function toBytes(value: string): Buffer {
  return Buffer.from(value.slice(2), 'hex')
}

/** A text array in PostgreSQL's notation; only names come this way. */
function parseNames(value: string): string[] {
  return [...value.matchAll(/"((?:[^"\\]|\\.)*)"|([^{},"]+)/g)].map(([, quoted, plain]) => plain ?? (quoted ?? '').replace(/\\(.)/g, '$1'))
}
