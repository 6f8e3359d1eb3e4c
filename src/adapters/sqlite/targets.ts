import type { HostTable } from '../../host-table.ts'
import type { MirrorTarget } from '../../mirroring.ts'
import { query, type Work } from '../../work.ts'
import { affinityOf } from './affinity.ts'
import { describe, OPAQUE } from './introspect.ts'
import type { SqliteColumn } from './json-values.ts'
import { type Reference, referencesOf } from './references.ts'
import { fold, quote } from './triggers.ts'

/** What SQLite must know of a table to write a mirror's rows. */
export interface SqliteTarget extends MirrorTarget {
  readonly columns: readonly SqliteColumn[]
  /** The collations by which keys are equal, in key order; BINARY for a row number. */
  readonly collations: readonly string[]
  readonly uniqueIndexes: readonly UniqueIndex[]
  /** Its foreign keys, as far as they are enforced. */
  readonly references: readonly Reference[]
  /** Those that refer to it, as far as they are enforced. */
  readonly referrers: readonly Reference[]
  /** ` OR ABORT` where a constraint of it would rather remove other rows, or leave ours out. */
  readonly orAbort: string
}

/** A unique index beside the primary key's. */
export interface UniqueIndex {
  readonly name: string
  /** Those that its expressions or its condition name too. */
  readonly columns: readonly string[]
  /** What SQLite says of it when it would be broken. */
  readonly said: string
}

/** `columns = values`, as SQL text, by the index of the key where they belong to it: another collation would read the whole table. */
export function equal(
  { key, collations }: SqliteTarget,
  columns: readonly string[],
  values: (column: string, at: number) => string = () => '?',
): string {
  const collate = (name: string) => (key.includes(name) ? ` COLLATE ${quote(collations[key.indexOf(name)] as string)}` : '')
  return columns.map((name, at) => `${quote(name)} = ${values(name, at)}${collate(name)}`).join(' AND ')
}

/** The tables that mirrors write, remembered as long as the schema is the same. */
export class Targets {
  private version = ''
  private readonly known = new Map<string, SqliteTarget>()
  private readonly named: Set<string>

  /** @param named the host's tables that are named on the connection; those that are read here are added */
  constructor(named: Set<string>) {
    this.named = named
  }

  forget(): void {
    this.version = ''
    this.known.clear()
  }

  *read(names: readonly string[]): Work<ReadonlyMap<string, SqliteTarget>> {
    const [now] = yield* query<{ schema_version: number; foreign_keys: number; encoding: string }>({
      sql: 'SELECT schema_version, foreign_keys, encoding FROM pragma_schema_version, pragma_foreign_keys, pragma_encoding',
      parameters: [],
    })
    const version = `${now?.schema_version} ${now?.foreign_keys}`
    if (version !== this.version) this.known.clear()
    this.version = version
    const schema = String(now?.schema_version)
    const unknown = names.filter((name) => !this.known.has(name))
    for (const name of unknown) this.named.add(name)
    if (unknown.length > 0) yield* this.add(unknown, schema, now?.foreign_keys === 1, now?.encoding === 'UTF-8')
    return new Map(names.flatMap((name) => (this.known.has(name) ? [[name, this.known.get(name) as SqliteTarget]] : [])))
  }

  private *add(names: readonly string[], schema: string, isEnforced: boolean, holdsBytes: boolean): Work<void> {
    const tables = yield* describe(names)
    if (tables.size === 0) return
    const references = yield* referencesOf(names)
    for (const [name, table] of tables) this.known.set(name, { ...(yield* target(table, references, isEnforced, holdsBytes)), version: schema })
  }
}

function* target(table: HostTable, all: readonly Reference[], isEnforced: boolean, holdsBytes: boolean): Work<Omit<SqliteTarget, 'version'>> {
  const [made] = yield* query<{ sql: string; strict: number }>({
    sql: `SELECT made.sql, list.strict FROM sqlite_schema AS made JOIN pragma_table_list(made.name) AS list ON list.schema = 'main' WHERE made.type = 'table' AND made.name = ?`,
    parameters: [table.name],
  })
  const references = all.filter((reference) => reference.table === table.name)
  const referrers = all.filter(({ refersTo }) => refersTo === table.name)
  const { collations, uniqueIndexes } = yield* indexes(table)
  const isReferring = references.length + referrers.length > 0
  return {
    ...table,
    columns: table.columns.map((column) => ({
      ...column,
      affinity: affinityOf(made?.strict === 1 && column.type === 'ANY' ? '' : column.type),
      holdsBytes,
    })),
    collations,
    uniqueIndexes,
    references: isEnforced ? references : [],
    referrers: isEnforced ? referrers : [],
    orAbort: /\bON\s+CONFLICT\b/i.test((made?.sql ?? '').replace(OPAQUE, ' ')) ? ' OR ABORT' : '',
    // Whatever is declared: each can be left until the end of the transaction.
    foreignKeys: references.map(({ name, columns, refersTo }) => ({ name, columns, refersTo, deferrable: true })),
    isReferredTo: referrers.length > 0,
    isDeferrable: isEnforced && isReferring,
  }
}

interface IndexInfo {
  readonly name: string
  readonly origin: string
  readonly partial: number
  readonly sql: string | null
}

function* indexes(table: HostTable): Work<Pick<SqliteTarget, 'collations' | 'uniqueIndexes'>> {
  const infos = yield* query<IndexInfo>({
    sql: `SELECT list.name, list.origin, list.partial, made.sql FROM pragma_index_list(?, 'main') AS list
          LEFT JOIN sqlite_schema AS made ON made.type = 'index' AND made.name = list.name WHERE list."unique" = 1`,
    parameters: [table.name],
  })
  let collations = table.key.map(() => 'BINARY')
  const uniqueIndexes: UniqueIndex[] = []
  for (const { name, origin, partial, sql } of infos) {
    const parts = yield* query<{ name: string | null; collation: string }>({
      sql: `SELECT name, coll AS collation FROM pragma_index_xinfo(?, 'main') WHERE key = 1 ORDER BY seqno`,
      parameters: [name],
    })
    if (origin === 'pk') collations = table.key.map((column) => parts.find((part) => part.name === column)?.collation ?? 'BINARY')
    else
      uniqueIndexes.push(
        uniqueIndex(
          table,
          name,
          parts.map((part) => part.name),
          partial === 1 ? sql : undefined,
          sql,
        ),
      )
  }
  return { collations, uniqueIndexes }
}

function uniqueIndex(
  table: HostTable,
  name: string,
  parts: readonly (string | null)[],
  partialSql: string | null | undefined,
  sql: string | null,
): UniqueIndex {
  const isExpression = parts.includes(null)
  const columns = isExpression || partialSql !== undefined ? namedIn(table, sql ?? '') : (parts as readonly string[])
  return { name, columns, said: isExpression ? `index '${name}'` : parts.map((part) => `${table.name}.${part}`).join(', ') }
}

const NAMES = /"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[\p{L}_$][\p{L}\p{N}_$]*/gu

/** The columns of a table that a text of SQL may name. */
function namedIn(table: HostTable, sql: string): readonly string[] {
  const names = new Set((sql.match(NAMES) ?? []).map((name) => fold(unquoted(name))))
  return table.columns.map(({ name }) => name).filter((name) => names.has(fold(name)))
}

function unquoted(name: string): string {
  const [quote = ''] = name
  if (quote === '[') return name.slice(1, -1)
  return quote === '"' || quote === '`' ? name.slice(1, -1).replaceAll(quote + quote, quote) : name
}
