import { type HostColumn, type HostTable, type Mirroring, type MirrorRows, query, type Work } from '../../ports.ts'
import { withValidText } from '../../record.ts'
import { quote } from './tables.ts'
import { isWrittenAlike, textOf } from './values.ts'

/**
 * Writes sealed records into tables without parsing them here: PostgreSQL reads the JSON texts itself and turns each
 * value into the target column's type by that type's input function, so that numerics and 64-bit integers stay exact.
 */
export class PostgresMirroring implements Mirroring {
  private readonly qualify: (name: string) => string

  constructor(qualify: (name: string) => string) {
    this.qualify = qualify
  }

  *upsert(rows: MirrorRows): Work<void> {
    const { table, columns, constants } = rows
    if (rows.records.length === 0) return
    const fixed = Object.keys(constants)
    const names = [...columns, ...fixed]
    const values = [...columns.map((name) => jsonAs(columnOf(table, name))), ...fixed.map((name, n) => `$${n + 2}::${columnOf(table, name).type}`)]
    // The key too: an equal one may be written otherwise, as 1.0 and 1.00, or 'abc' and 'ABC' where the column's collation lets it.
    const changes = names.every((name) => table.key.includes(name)) ? [] : names.map((name) => `${quote(name)} = excluded.${quote(name)}`)
    const { distinct, order } = lastOfEqual(table, columns)
    yield* query({
      sql: `INSERT INTO ${this.qualify(table.name)} (${names.map(quote).join(', ')})
            SELECT ${distinct} ${values.join(', ')} FROM ${recordset('x', 1, columns, order !== '')} ${order}
            ON CONFLICT (${table.key.map(quote).join(', ')}) DO ${changes.length > 0 ? `UPDATE SET ${changes.join(', ')}` : 'NOTHING'}`,
      parameters: [asArray(rows.records), ...Object.values(constants)],
    })
  }

  *remove(rows: MirrorRows): Work<void> {
    const { table, columns, constants } = rows
    if (rows.records.length === 0) return
    const same = columns.map((name) => `t.${quote(name)} = ${jsonAs(columnOf(table, name))}`)
    const fixed = Object.keys(constants).map((name, n) => `t.${quote(name)} = $${n + 2}::${columnOf(table, name).type}`)
    yield* query({
      sql: `DELETE FROM ${this.qualify(table.name)} t USING ${recordset('x', 1, columns)} WHERE ${[...same, ...fixed].join(' AND ')}`,
      parameters: [asArray(rows.records), ...Object.values(constants)],
    })
  }

  *strays(table: HostTable, columns: Readonly<Record<string, string>>, parents: MirrorRows, kept: readonly string[]): Work<readonly string[]> {
    if (parents.records.length === 0) return []
    const fixed = Object.keys(parents.constants)
    const key = table.key.filter((name) => !fixed.includes(name))
    const belongs = Object.entries(columns).map(([own, above]) => `t.${quote(own)} = ${jsonAs(columnOf(parents.table, above))}`)
    const constants = fixed.map((name, n) => `t.${quote(name)} = $${n + 3}::${columnOf(table, name).type}`)
    const same = key.map((name) => `t.${quote(name)} = ${jsonAs(columnOf(table, name), 'k')}`)
    // As text, which jsonAs reads back whatever the type; as JSON an array or a composite would not be its own text.
    const texts = table.columns.map((column) => `${textOf(column, `t.${quote(column.name)}`)} AS ${quote(column.name)}`)
    const rows = yield* query<{ record: string }>({
      sql: `SELECT (SELECT row_to_json(texts)::text FROM (SELECT ${texts.join(', ')}) AS texts) AS record
            FROM ${this.qualify(table.name)} t JOIN ${recordset('x', 1, Object.values(columns))} ON ${belongs.join(' AND ')}
            WHERE ${[...constants, `NOT EXISTS (SELECT FROM ${recordset('k', 2, key)} WHERE ${same.join(' AND ')})`].join(' AND ')}`,
      parameters: [asArray(parents.records), asArray(kept), ...Object.values(parents.constants)],
    })
    return rows.map((row) => row.record)
  }
}

function columnOf(table: HostTable, name: string): HostColumn {
  return table.columns.find((column) => column.name === name) as HostColumn
}

function asArray(records: readonly string[]): string {
  return withValidText(`[${records.join(',')}]`)
}

function recordset(alias: string, parameter: number, columns: readonly string[], numbered = false): string {
  const names = [...new Set(columns)].map(quote)
  const typed = names.map((name) => `${name} json`).join(', ')
  const call = `json_to_recordset($${parameter}::json) AS`
  return numbered ? `ROWS FROM (${call} (${typed})) WITH ORDINALITY AS ${alias}(${names.join(', ')}, sync_n)` : `${call} ${alias}(${typed})`
}

/**
 * Keys that are equal to PostgreSQL though their texts differ, as 1.0 and 1.00, are one row, and an INSERT may meet it once: the
 * last of them is taken. Where texts tell keys apart nothing is to be sorted.
 */
function lastOfEqual(table: HostTable, columns: readonly string[]): { readonly distinct: string; readonly order: string } {
  const key = table.columns.filter(({ name }) => table.key.includes(name) && columns.includes(name))
  if (key.every(isWrittenAlike)) return { distinct: '', order: '' }
  const values = key.map((column) => jsonAs(column)).join(', ')
  return { distinct: `DISTINCT ON (${values})`, order: `ORDER BY ${values}, x.sync_n DESC` }
}

/** A JSON value as the column's type. Tags are what the codec writes for values that JSON does not have; see record.ts. */
function jsonAs({ name, type, base = type }: HostColumn, alias = 'x'): string {
  const value = `${alias}.${quote(name)}`
  const tagged = `coalesce(${value} ->> '$real', convert_from(decode(${value} ->> '$blob', 'base64'), 'UTF8'))`
  const text = `(CASE json_typeof(${value}) WHEN 'object' THEN ${tagged} ELSE ${value} #>> '{}' END)`
  if (base === 'bytea') return `CASE json_typeof(${value}) WHEN 'object' THEN decode(${value} ->> '$blob', 'base64') ELSE ${text}::bytea END::${type}`
  // A whole number that the till keeps in a REAL column is written with a point.
  if (['smallint', 'integer', 'bigint'].includes(base)) return `regexp_replace(${text}, '\\.0+$', '')::${type}`
  return `${text}::${type}`
}
