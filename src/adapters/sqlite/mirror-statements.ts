import type { MirrorUpsert } from '../../mirroring.ts'
import { InvalidText } from '../../record.ts'
import { bindable, isSame, place, type Stored } from './json-values.ts'
import { equal, type SqliteTarget } from './targets.ts'
import { quote } from './triggers.ts'

/** Bits that a number holds which JavaScript shifts. */
const BITS = 30

/** A statement with its parameters, which are the values of these columns. */
export interface Bound {
  readonly sql: string
  readonly names: readonly string[]
  readonly parameters: readonly unknown[]
}

/** How a table's rows are compared and written: which columns, and SQL that is the same for the same columns. */
export class MirrorStatements {
  readonly table: SqliteTarget
  /** The columns whose values are known, in the order in which they are read. */
  readonly names: readonly string[]
  /** Of a new row: the key's too, whoever owns the others. */
  private readonly inserted: readonly string[]
  /** That an UPDATE may set: of the key those whose equal values may be written otherwise, as 'abc' and 'ABC' where the collation lets it. */
  private readonly settable: readonly string[]
  /** Of those, which SQLite compares; others have to be the same to the storage class. */
  private readonly compared: readonly string[]
  private readonly read: readonly string[]
  private readonly places: ReadonlyMap<string, number>
  private readonly built = new Map<string, string>()

  constructor({ table, columns, constants, written }: Omit<MirrorUpsert, 'others'>) {
    this.table = table as SqliteTarget
    const { key, collations } = this.table
    const affinities = new Map(this.table.columns.map(({ name, affinity }) => [name, affinity]))
    const isGenerated = (name: string) => table.columns.some((column) => column.name === name && column.generated)
    const isLoose = (name: string) => key.includes(name) || affinities.get(name) === 'blob'
    const hasOneSpelling = (name: string) => affinities.get(name) !== 'blob' && collations[key.indexOf(name)] === 'BINARY'
    const fixed = Object.keys(constants)
    this.names = [...columns.filter((name) => !fixed.includes(name) && !isGenerated(name)), ...fixed]
    this.places = new Map(this.names.map((name, at) => [name, at]))
    this.inserted = this.names.filter((name) => written.includes(name) || key.includes(name) || fixed.includes(name))
    this.settable = this.names.filter((name) => written.includes(name) && !fixed.includes(name) && !(key.includes(name) && hasOneSpelling(name)))
    this.compared = this.settable.filter((name) => !isLoose(name))
    this.read = [...key, ...this.settable.filter((name) => isLoose(name) && !key.includes(name))]
  }

  keyOf(row: readonly Stored[]): readonly Stored[] {
    return this.table.key.map((name) => this.valueOf(row, name))
  }

  valuesOf(row: readonly Stored[], names: readonly string[]): ReadonlyMap<string, Stored> {
    return new Map(names.map((name) => [name, this.valueOf(row, name)]))
  }

  /** Finds the row with the key of another, and says in which columns it differs. */
  comparison(row: readonly Stored[]): Bound {
    const { table, read, compared } = this
    return this.bound('', [row], [...compared, ...table.key], (place) => {
      const differs = compared.map((name) => `(${quote(name)} IS NOT ${place(name)} COLLATE BINARY)`)
      const masks = chunks(differs).map((chunk) => chunk.map((one, bit) => `(${one} << ${bit})`).join(' | '))
      return `SELECT ${[...read.map(quote), ...masks].join(', ')} FROM ${quote(table.name)} WHERE ${equal(table, table.key, place)}`
    })
  }

  /** The columns in which what a comparison found is to be changed. */
  changes(row: readonly Stored[], found: readonly unknown[]): readonly string[] {
    const { read, compared, settable } = this
    const changed = read.filter((name, at) => settable.includes(name) && !isSame(found[at] as Stored, this.valueOf(row, name)))
    for (let at = read.length, first = 0; at < found.length; at++, first += BITS) {
      for (let bits = Number(found[at]), bit = 0; bits !== 0; bits >>= 1, bit++) if (bits & 1) changed.push(compared[first + bit] as string)
    }
    return changed
  }

  /** Of one row or more; returns each that it has written. */
  insertion(rows: readonly (readonly Stored[])[]): Bound {
    const { table, inserted, settable } = this
    return this.bound(`insert ${rows.length}`, rows, inserted, (place) => {
      // Keys that are equal to SQLite though their texts differ, as 'abc' and 'ABC', are one row: the last of them is taken.
      const update = settable.length === 0 ? 'NOTHING' : `UPDATE SET ${settable.map((name) => `${quote(name)} = excluded.${quote(name)}`).join(', ')}`
      const values = rows.map((_, at) => `(${inserted.map((name) => place(name, at)).join(', ')})`)
      return `INSERT${table.orAbort} INTO ${quote(table.name)} AS t (${inserted.map(quote).join(', ')}) VALUES ${values.join(', ')}
              ON CONFLICT (${table.key.map(quote).join(', ')}) DO ${update} RETURNING 1`
    })
  }

  /** How many values a new row has. */
  get width(): number {
    return this.inserted.length
  }

  /** Returns the row that it has changed. */
  update(row: readonly Stored[], names: readonly string[]): Bound {
    const { table } = this
    return this.bound(`update ${names.map(quote)}`, [row], [...names, ...table.key], (place) => {
      return `UPDATE${table.orAbort} ${quote(table.name)} SET ${names.map((name) => `${quote(name)} = ${place(name)}`).join(', ')} WHERE ${equal(table, table.key, place)} RETURNING 1`
    })
  }

  /** A statement with the values of these columns, in order, row by row; built once for rows alike. */
  private bound(
    what: string,
    rows: readonly (readonly Stored[])[],
    names: readonly string[],
    build: (place: (name: string, at?: number) => string) => string,
  ): Bound {
    const values = rows.flatMap((row) => names.map((name) => this.valueOf(row, name)))
    const odd = values.some((value) => value instanceof InvalidText) ? values.map(place).join() : ''
    const shape = `${what} ${odd}`
    const sql = this.built.get(shape) ?? build((name, at = 0) => place(this.valueOf(rows[at] ?? [], name)))
    this.built.set(shape, sql)
    return { sql, names, parameters: odd === '' ? values : values.map(bindable) }
  }

  private valueOf(row: readonly Stored[], name: string): Stored {
    return row[this.places.get(name) as number] ?? null
  }
}

function chunks(all: readonly string[]): readonly (readonly string[])[] {
  return Array.from({ length: Math.ceil(all.length / BITS) }, (_, n) => all.slice(n * BITS, (n + 1) * BITS))
}
