import { TillsyncError } from '../../errors.ts'
import type { HostColumn } from '../../host-table.ts'
import { type Mirroring, type MirrorOthers, type MirrorRows, type MirrorTarget, type MirrorUpsert, mayGoFirst } from '../../mirroring.ts'
import { encodeText, ownOf } from '../../record.ts'
import { query, send, type Work } from '../../work.ts'
import { type GivenUp, waysToGiveUp } from './aside.ts'
import { brokenUnique, refusal } from './errors.ts'
import { asValue, differs, hasOneSpelling } from './json-values.ts'
import { asArray, columnOf, NUMBER, recordset, value } from './recordset.ts'
import { quote } from './tables.ts'
import { type PostgresTarget, Targets } from './targets.ts'
import { literal } from './triggers.ts'
import { encoderOf, isWrittenAlike, textOf } from './values.ts'

const SETTLE = 'SET CONSTRAINTS ALL IMMEDIATE'

/**
 * Writes sealed records into tables without parsing them here: PostgreSQL reads the JSON texts itself and turns each
 * value into the target column's type by that type's input function, so that numerics and 64-bit integers stay exact.
 */
export class PostgresMirroring implements Mirroring {
  private readonly qualify: (name: string) => string
  private readonly known: Targets

  constructor(schema: string, qualify: (name: string) => string) {
    this.qualify = qualify
    this.known = new Targets(schema, qualify)
  }

  targets(names: readonly string[]): Work<ReadonlyMap<string, MirrorTarget>> {
    return this.known.read(names)
  }

  /** Nobody waits for a lock of ours meanwhile but who wants the same rows. */
  *foresee(): Work<void> {}

  *upsert(rows: MirrorUpsert): Work<void> {
    if (rows.records.length === 0) return
    const given = new Set<string>()
    while (true) {
      const broken = yield* this.brokenBy(rows)
      if (broken === undefined) return
      const name = brokenUnique(broken)
      // Each unique value is given up once; what is still in the way then belongs to a row that stays as it is.
      if (name === undefined || given.has(name) || !(yield* this.giveUp(rows, name))) throw broken
      given.add(name)
    }
  }

  *differing(rows: Omit<MirrorUpsert, 'others'>): Work<readonly string[]> {
    if (rows.records.length === 0) return []
    try {
      const { missing, changed } = yield* this.compare(rows)
      return rows.rows === 'update' ? changed : [...missing, ...changed]
    } catch (error) {
      throw refusal(error, rows.table.name)
    }
  }

  /** Writes them; where they would break a unique constraint nothing is written, and the error is returned. */
  private *brokenBy(rows: MirrorUpsert): Work<unknown> {
    if (!(rows.table as PostgresTarget).hasUniques) {
      yield* this.write(rows)
      return undefined
    }
    yield* before('SAVEPOINT sync_unique')
    try {
      yield* this.write(rows)
    } catch (error) {
      if (brokenUnique(error) === undefined) throw error
      yield* statement('ROLLBACK TO SAVEPOINT sync_unique')
      return error
    }
    yield* before('RELEASE SAVEPOINT sync_unique')
    return undefined
  }

  /** Takes a value of a unique index or an exclusion constraint from those rows that are to get another one, or to go; false where that can't be done. */
  private *giveUp(rows: MirrorUpsert, index: string): Work<boolean> {
    let isDone = false
    for (const others of yield* rows.others()) {
      const ways = others.records.length === 0 ? [] : yield* waysToGiveUp(this.qualify(rows.table.name), others, index)
      const tries = ways.map((way) => () => this.setAside(others, way))
      if (mayGoFirst(others)) tries.push(() => this.remove(others))
      for (const attempt of tries) {
        if (!(yield* this.isGivenUp(rows, attempt))) continue
        isDone = true
        break
      }
    }
    return isDone
  }

  private *isGivenUp({ table }: MirrorUpsert, attempt: () => Work<void>): Work<boolean> {
    yield* statement('SAVEPOINT sync_unique')
    try {
      yield* attempt()
    } catch (error) {
      if (error instanceof TillsyncError ? error.retryable : refusal(error, table.name) === error) throw error
      yield* statement('ROLLBACK TO SAVEPOINT sync_unique')
      return false
    }
    yield* statement('RELEASE SAVEPOINT sync_unique')
    return true
  }

  private *setAside(others: MirrorOthers, { column, value: given, columns }: GivenUp): Work<void> {
    const { table, written } = others
    const changes = columns.filter((name) => others.columns.includes(name) && !Object.hasOwn(others.constants, name))
    const changed = changes.map((name) => differs(columnOf(table, name), `t.${quote(name)}`, value(others, name)))
    yield* query({
      sql: `UPDATE ${this.qualify(table.name)} t SET ${quote(column)} = ${given} FROM ${recordset(others, 'x', 1)}
            WHERE ${this.sameKey(others)} ${written === undefined ? '' : `AND (${['false', ...changed].join(' OR ')})`}`,
      parameters: [asArray(others.records)],
    })
  }

  private *write(rows: MirrorUpsert): Work<void> {
    try {
      if (rows.rows === 'new' && (rows.table as PostgresTarget).hasConflicts) return yield* this.insert(rows, rows.records)
      const { missing, changed } = yield* this.compare(rows)
      if (rows.rows !== 'update' && missing.length > 0) yield* this.insert(rows, missing)
      if (changed.length > 0) yield* this.update(rows, changed)
    } catch (error) {
      throw refusal(error, rows.table.name)
    }
  }

  /** Which of the records are not there, and which are there otherwise, in the order of their keys. */
  private *compare(rows: Omit<MirrorUpsert, 'others'>): Work<{ readonly missing: readonly string[]; readonly changed: readonly string[] }> {
    const { table, records } = rows
    const changes = this.settable(rows)
    const changed =
      changes.length === 0 ? 'false' : changes.map((name) => differs(columnOf(table, name), `t.${quote(name)}`, value(rows, name))).join(' OR ')
    const found = yield* query<{ n: number; row: string; changed: boolean }>({
      sql: `SELECT x.${NUMBER} AS n, t.tableoid || ' ' || t.ctid::text AS row, ${changed} AS changed
            FROM ${recordset(rows, 'x', 1, true)} JOIN ${this.qualify(table.name)} t ON ${this.sameKey(rows)} ORDER BY ${[...table.key.map((name) => `t.${quote(name)}`), 1].join(', ')}`,
      parameters: [asArray(rows.records)],
    })
    const there = new Set(found.map(({ n }) => n))
    // Keys that are equal to PostgreSQL though their texts differ, as 1.0 and 1.00, are one row: the last of them is taken.
    const last = new Map(found.map((row) => [row.row, row]))
    return {
      missing: records.filter((_, at) => !there.has(at + 1)),
      changed: [...last.values()].filter((row) => row.changed).map(({ n }) => records[n - 1] as string),
    }
  }

  private *insert(rows: MirrorUpsert, records: readonly string[]): Work<void> {
    const { table, constants } = rows
    const { numbered, hasConflicts } = table as PostgresTarget
    const written = this.insertable(rows)
    const names = [...written, ...Object.keys(constants)]
    const values = names.map((name) => value(rows, name))
    const { distinct, order } = lastOfEqual(rows)
    const changes = this.settable(rows)
    const differences = changes.map((name) => differs(columnOf(table, name), `t.${quote(name)}`, `excluded.${quote(name)}`))
    const update = `UPDATE SET ${changes.map((name) => `${quote(name)} = excluded.${quote(name)}`).join(', ')} WHERE ${differences.join(' OR ')}`
    const conflict = `ON CONFLICT (${table.key.map(quote).join(', ')}) DO ${changes.length > 0 ? update : 'NOTHING'}`
    yield* query({
      sql: `INSERT INTO ${this.qualify(table.name)} AS t (${names.map(quote).join(', ')}) ${table.key.some((name) => numbered.includes(name)) ? 'OVERRIDING SYSTEM VALUE' : ''}
            SELECT ${distinct} ${values.join(', ')} FROM ${recordset(rows, 'x', 1, distinct !== '')} ${order} ${hasConflicts ? conflict : ''}`,
      parameters: [asArray(records)],
    })
  }

  private *update(rows: MirrorUpsert, records: readonly string[]): Work<void> {
    const changes = this.settable(rows).filter((name) => !Object.hasOwn(rows.constants, name))
    yield* query({
      sql: `UPDATE ${this.qualify(rows.table.name)} t SET ${changes.map((name) => `${quote(name)} = ${value(rows, name)}`).join(', ')}
            FROM ${recordset(rows, 'x', 1)} WHERE ${this.sameKey(rows)}`,
      parameters: [asArray(records)],
    })
  }

  /** Columns of a new row: the key's too, whoever owns the others. */
  private insertable({ table, columns, written }: MirrorUpsert): readonly string[] {
    const { numbered } = table as PostgresTarget
    const isComputed = (name: string) => columnOf(table, name).generated && !numbered.includes(name)
    return columns.filter((name) => (written.includes(name) || table.key.includes(name)) && !isComputed(name))
  }

  /** Columns that an UPDATE sets. Of the key those whose equal values may be written otherwise, as 1.0 and 1.00, or 'abc' and 'ABC' where the collation lets it. */
  private settable({ table, written }: Pick<MirrorUpsert, 'table' | 'written'>): readonly string[] {
    const { numbered } = table as PostgresTarget
    return written.filter((name) => !numbered.includes(name) && !(table.key.includes(name) && hasOneSpelling(columnOf(table, name))))
  }

  private sameKey(rows: MirrorRows): string {
    return rows.table.key.map((name) => `t.${quote(name)} = ${value(rows, name)}`).join(' AND ')
  }

  *remove(rows: MirrorRows): Work<void> {
    const { table, columns, constants } = rows
    if (rows.records.length === 0) return
    const same = [...columns, ...Object.keys(constants)].map((name) => `t.${quote(name)} = ${value(rows, name)}`)
    try {
      yield* query({
        sql: `DELETE FROM ${this.qualify(table.name)} t USING ${recordset(rows, 'x', 1)} WHERE ${same.join(' AND ')}`,
        parameters: [asArray(rows.records)],
      })
    } catch (error) {
      throw refusal(error, table.name)
    }
  }

  *strays(
    { table, constants }: Pick<MirrorRows, 'table' | 'constants'>,
    columns: Readonly<Record<string, string>>,
    parents: MirrorRows,
    kept: readonly MirrorRows[],
  ): Work<readonly string[]> {
    if (parents.records.length === 0) return []
    const parameters = [asArray(parents.records)]
    const wanted = Object.entries(columns).map(([own, above]) => `t.${quote(own)} = ${value(parents, above)}`)
    for (const [name, constant] of Object.entries(constants))
      wanted.push(`t.${quote(name)} = ${asValue(columnOf(table, name), literal(String(constant)))}`)
    for (const rows of kept) {
      const same = table.key.flatMap((name) => (Object.hasOwn(constants, name) ? [] : [`t.${quote(name)} = ${value(rows, name, 'k')}`]))
      const at = parameters.push(asArray(rows.records))
      wanted.push(`NOT EXISTS (SELECT FROM ${recordset(rows, 'k', at)} WHERE ${['true', ...same].join(' AND ')})`)
    }
    // As text, of which the codec makes values as they are sent; as JSON an array or a composite would not be its own text.
    const texts = table.columns.map((column) => `${textOf(column, `t.${quote(column.name)}`)} AS ${quote(column.name)}`)
    try {
      const rows = yield* query<{ record: string }>({
        sql: `SELECT (SELECT row_to_json(texts)::text FROM (SELECT ${texts.join(', ')}) AS texts) AS record
              FROM ${this.qualify(table.name)} t JOIN ${recordset(parents, 'x', 1)} ON ${wanted.join(' AND ')}`,
        parameters,
      })
      return rows.map(recordsWith(table.columns))
    } catch (error) {
      throw refusal(error, table.name)
    }
  }

  *refusedBy(work: () => Work<void>): Work<string | undefined> {
    yield* before('SAVEPOINT sync_reference')
    try {
      yield* work()
    } catch (error) {
      if (!(error instanceof TillsyncError) || error.code !== 'ERR_REFERENCE') throw error
      yield* statement('ROLLBACK TO SAVEPOINT sync_reference')
      return String(error.context.constraint)
    }
    yield* before('RELEASE SAVEPOINT sync_reference')
    return undefined
  }

  defer(): Work<void> {
    return before('SET CONSTRAINTS ALL DEFERRED')
  }

  *settle(): Work<void> {
    try {
      yield* statement(SETTLE)
    } catch (error) {
      throw refusal(error, 'A table')
    }
  }

  settleLater(): Work<void> {
    return send({ sql: SETTLE, parameters: [], keepsPlan: true })
  }
}

/** Of rows that were read as texts, as the codec writes them. */
function recordsWith(columns: readonly HostColumn[]): (row: { readonly record: string }) => string {
  const members = columns.map((column) => ({ name: column.name, prefix: `${encodeText(column.name)}:`, encode: encoderOf(column) }))
  return ({ record }) => {
    const texts: Readonly<Record<string, string | null>> = JSON.parse(record)
    return `{${members.map(({ name, prefix, encode }) => prefix + encode(ownOf(texts, name))).join(',')}}`
  }
}

/** What can't fail by itself, in the same way to the server as what comes behind it. */
function before(sql: string): Work<void> {
  return send({ sql, parameters: [], keepsPlan: true })
}

function* statement(sql: string): Work<void> {
  yield* query({ sql, parameters: [] })
}

/**
 * Keys that are equal to PostgreSQL though their texts differ, as 1.0 and 1.00, are one row, and an INSERT may meet it once: the
 * last of them is taken. Rows that other registers may write too are written in the order of their keys, so that two batches wait for each other
 * rather than end in a deadlock.
 */
function lastOfEqual(rows: MirrorRows): { readonly distinct: string; readonly order: string } {
  const key = rows.table.columns.filter(({ name }) => rows.table.key.includes(name) && rows.columns.includes(name))
  const isShared = Object.keys(rows.constants).length === 0 && rows.records.length > 1
  const { loose } = rows.table as PostgresTarget
  const values = key
    .map(({ name }) => (ownOf(loose, name) === undefined ? value(rows, name) : `${value(rows, name)} COLLATE ${loose[name]}`))
    .join(', ')
  const isPlain = key.every((column) => isWrittenAlike(column) && ownOf(loose, column.name) === undefined)
  if (isPlain) return { distinct: '', order: isShared ? `ORDER BY ${values}` : '' }
  return { distinct: `DISTINCT ON (${values})`, order: `ORDER BY ${values}, x.${NUMBER} DESC` }
}
