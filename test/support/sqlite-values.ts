import type { Database } from 'better-sqlite3'
import type { Pool } from 'pg'
import type { AnyTables, PublishRules, RegisterName } from '../../src/index.ts'
import type { ReplayedRecord } from './entries.ts'
import { bitsOf, row } from './exact.ts'
import { brokenText, bytes, integer, real, short, text } from './nasty.ts'
import type { Random } from './random.ts'

export const ENCODINGS = ['UTF-8', 'UTF-16le', 'UTF-16be'] as const
export type Encoding = (typeof ENCODINGS)[number]

/** Columns of every affinity and of none; strict ones; keys of any storage class, alone and as part of one. */
export function valuesSchema(encoding: Encoding): string {
  return `
    PRAGMA encoding = '${encoding}';
    CREATE TABLE loose (id INTEGER PRIMARY KEY, anything, b BLOB, t TEXT, n NUMERIC, i INTEGER, r REAL, "VARCHAR(3)" VARCHAR(3), d DECIMAL(10, 2), f BOOLEAN, at DATETIME);
    CREATE TABLE strict (id INTEGER PRIMARY KEY, i INTEGER, j INT, r REAL, t TEXT, b BLOB, anything ANY) STRICT;
    CREATE TABLE sendable (k BLOB PRIMARY KEY NOT NULL, i INTEGER, r REAL, t TEXT, b BLOB) STRICT, WITHOUT ROWID;
    CREATE TABLE keyed (k PRIMARY KEY NOT NULL, note);
    CREATE TABLE parts (a NOT NULL, b TEXT NOT NULL, k, note, PRIMARY KEY (a, b)) WITHOUT ROWID;
    CREATE INDEX parts_k ON parts (k)`
}

/** What PostgreSQL can hold of it, as head office has it. */
export const VALUES_TARGET = `
  CREATE TABLE sendable (location text, register text, k bytea, i bigint, r double precision, t text, b bytea, PRIMARY KEY (location, register, k))`

export const PUBLISH_VALUES: PublishRules<AnyTables> = {
  loose: {},
  strict: {},
  sendable: {},
  keyed: {},
  parts: { partOf: { keyed: { k: 'k' } } },
}

/** A value with how it gets into a statement. */
interface Bound {
  readonly sql: string
  readonly value: unknown
}

/** The POS application: writes whatever SQLite takes. */
export class SqliteHost {
  private readonly db: Database
  private readonly encoding: Encoding
  private readonly used: Bound[] = []

  constructor(db: Database, encoding: Encoding) {
    this.db = db
    this.encoding = encoding
  }

  /** One transaction of everything. */
  write(random: Random, rows: number, long = 0): void {
    this.db.transaction(() => {
      for (const table of ['loose', 'strict']) this.db.exec(`DELETE FROM ${table} WHERE ${random.pick(['1', 'id % 2', 'id % 3 = 0'])}`)
      if (random.chance(0.5)) this.db.exec('DELETE FROM sendable WHERE length(k) = 1')
      for (let n = 0; n < rows; n++) {
        const any = () => this.any(random)
        this.run('INSERT INTO loose (anything, b, t, n, i, r, "VARCHAR(3)", d, f, at) VALUES', Array.from({ length: 10 }, any))
        this.run('INSERT INTO strict (i, j, r, t, b, anything) VALUES', [...this.typed(random), any()])
        const [i, , r, , b] = this.typed(random)
        const words = { sql: '?', value: n === 0 && long > 0 ? 'ä'.repeat(long) : this.orNull(random, text(random)) }
        this.run('INSERT OR REPLACE INTO sendable (k, i, r, t, b) VALUES', [{ sql: '?', value: bytes(random, random.int(0, 2)) }, i, r, words, b])
        this.writeKeyed(random)
      }
    })()
  }

  /** Few keys, so that they are changed, removed and used again; equal ones of other storage classes among them. */
  private writeKeyed(random: Random): void {
    const [key, other] = [this.key(random), this.key(random)]
    this.run('INSERT OR REPLACE INTO keyed VALUES', [key, this.any(random)])
    const name = { sql: '?', value: random.pick(['', 'a', 'A', 'a\0', 'ä', '1']) }
    this.run('INSERT OR REPLACE INTO parts VALUES', [this.key(random), name, other, this.any(random)])
    if (random.chance(0.3)) this.change('UPDATE OR REPLACE keyed SET k = # WHERE k = #', key, other)
    if (random.chance(0.3)) this.change('UPDATE keyed SET note = # WHERE k = #', this.any(random), this.key(random))
    if (random.chance(0.2)) this.change('UPDATE OR REPLACE parts SET a = #, k = # WHERE a = #', this.key(random), other, this.key(random))
    if (random.chance(0.2)) this.change(`DELETE FROM ${random.pick(['keyed', 'parts'])} WHERE k = #`, this.key(random))
  }

  private change(sql: string, ...values: readonly Bound[]): void {
    let at = 0
    this.db.prepare(sql.replace(/#/g, () => values[at++]?.sql ?? '')).run(...values.map(({ value }) => value))
  }

  private run(into: string, values: readonly (Bound | undefined)[]): void {
    const given = values as readonly Bound[]
    this.db.prepare(`${into} (${given.map(({ sql }) => sql).join(', ')})`).run(...given.map(({ value }) => value))
  }

  private orNull(random: Random, value: unknown): unknown {
    return random.chance(0.1) ? null : value
  }

  private key(random: Random): Bound {
    if (this.used.length > 20 && random.chance(0.7)) return random.pick(this.used)
    const key = random.chance(0.2)
      ? { sql: '?', value: random.pick([1n, 1, '1', '1.0', Buffer.from('1'), 2n ** 53n, 2 ** 53, 2n ** 53n + 1n]) }
      : this.some(random, short(random))
    this.used.push(key)
    return key
  }

  private any(random: Random): Bound {
    return random.chance(0.1) ? { sql: '?', value: random.pick([null, Number.NaN]) } : this.some(random)
  }

  /** Text that is no UTF-8, as a POS leaves it that writes Latin-1, gets there by a cast only. */
  private some(random: Random, length?: number): Bound {
    if (this.encoding === 'UTF-8' && random.chance(0.1)) return { sql: 'CAST(? AS TEXT)', value: brokenText(random) }
    const drawn: (random: Random, length?: number) => unknown = random.pick([() => integer(random), real, text, bytes, textWithNul])
    return { sql: '?', value: drawn(random, length) }
  }

  /** For INTEGER, INT, REAL, TEXT, BLOB. */
  private typed(random: Random): Bound[] {
    const values = [integer(random), integer(random), real(random), textWithNul(random), bytes(random)]
    return values.map((value) => ({ sql: '?', value: this.orNull(random, value) }))
  }
}

function textWithNul(random: Random, length?: number): string {
  return random.chance(0.7) ? text(random, length) : `${text(random, 3)}\0${text(random, 3)}`
}

/** The rows of a table with each value to the bit, as SQLite itself says it. */
export function valuesOf(db: Database, encoding: Encoding, table: string, where = '1'): Readonly<Record<string, string>>[] {
  const names = db.prepare('SELECT name FROM pragma_table_info(?)').pluck().all(table) as string[]
  const columns = names.map((name) => `"${name}", typeof("${name}"), hex(CAST("${name}" AS BLOB))`)
  const rows = db
    .prepare(`SELECT ${columns.join(', ')} FROM ${table} WHERE ${where}`)
    .raw()
    .safeIntegers()
    .all() as unknown[][]
  return rows.map((row) =>
    Object.fromEntries(names.map((name, at) => [name, exactly(encoding, row[3 * at], String(row[3 * at + 1]), String(row[3 * at + 2]))])),
  )
}

function exactly(encoding: Encoding, value: unknown, type: string, hex: string): string {
  if (type === 'real') return `real ${bitsOf(value as number)}`
  if (type === 'integer') return `integer ${value}`
  if (type === 'text') return `text ${inUtf8(Buffer.from(hex, 'hex'), encoding).toString('hex')}`
  return `${type} ${hex.toLowerCase()}`
}

function inUtf8(stored: Buffer, encoding: Encoding): Buffer {
  if (encoding === 'UTF-8') return stored
  return Buffer.from((encoding === 'UTF-16le' ? stored : stored.swap16()).toString('utf16le'))
}

/** The mirror's rows of these records, in the same terms; those of removed documents stay there. */
export async function valuesMirrored(pool: Pool, { location, register }: RegisterName, records: readonly ReplayedRecord[]): Promise<string[]> {
  const shown = (kind: string, value: string) => `coalesce('${kind} ' || ${value}, 'null ')`
  const hex = (value: string) => `encode(${value}, 'hex')`
  const { rows } = await pool.query<Record<string, string>>(
    `SELECT ${shown('blob', hex('byteasend(k)'))} AS k, ${shown('integer', 'i')} AS i, ${shown('real', hex('float8send(r)'))} AS r,
       ${shown('text', hex('textsend(t)'))} AS t, ${shown('blob', hex('byteasend(b)'))} AS b
     FROM sendable WHERE location = $1 AND register = $2 AND ${shown('blob', hex('byteasend(k)'))} = ANY($3)`,
    [location, register, records.map(({ id }) => id)],
  )
  return rows.map((one) => row(one, String))
}
