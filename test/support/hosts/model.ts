/** What is known of a random host's tables while its statements are made up. The database itself may turn out otherwise: a statement that fails changes nothing. */
export interface Schema {
  readonly dialect: DialectName
  readonly tables: Table[]
  /** Names of the host's own triggers and unique indexes, which statements drop. */
  triggers: { readonly name: string; readonly on: string }[]
  /** Names that are taken, without case. */
  readonly names: Set<string>
  /** PostgreSQL's collations, domains and enums that columns use. */
  readonly types: string[]
}

export type DialectName = 'sqlite' | 'postgres'

export interface Table {
  name: string
  readonly columns: Column[]
  /** Names of the key's columns, in key order. */
  key: string[]
  readonly parent?: Parent
  uniques: Unique[]
  /** 'STRICT', 'WITHOUT ROWID'; on PostgreSQL 'PARTITION BY …'. */
  readonly options: readonly string[]
  /** SQLite: `ON CONFLICT REPLACE` of the primary key. */
  readonly keyConflict?: string | undefined
  readonly partitions: Partition[]
  /** Not published: a log that triggers write to. */
  readonly aside?: boolean
}

export interface Parent {
  readonly table: Table
  /** Columns of the part and those of the table above that they refer to, in order. */
  own: string[]
  others: string[]
  /** `ON DELETE CASCADE …`; undefined where the host declares no foreign key. */
  readonly foreign?: string
}

export interface Partition {
  readonly name: string
  readonly bounds: string
  attached: boolean
}

export interface Unique {
  readonly name: string
  columns: readonly { name: string; readonly collation?: string }[]
  /** The condition of a partial index, with `?` for the quoted name of `column`. */
  readonly where?: { readonly column: string; readonly text: string }
  /** Part of CREATE TABLE instead of an index of its own: `ON CONFLICT REPLACE` or ''. */
  readonly constraint?: string
}

export type Kind =
  | 'integer'
  | 'text'
  | 'status'
  | 'real'
  | 'numeric'
  | 'blob'
  | 'any'
  | 'boolean'
  | 'uuid'
  | 'date'
  | 'timestamp'
  | 'json'
  | 'array'
  | 'enum'
  | 'domain'

export interface Column {
  name: string
  readonly type: string
  readonly kind: Kind
  readonly collation?: string | undefined
  readonly notNull?: boolean
  readonly default?: string | undefined
  /** `GENERATED ALWAYS AS (…) STORED`; it names another column as it was when the table was made. */
  readonly generated?: string | undefined
  /** Beside the type: `ON CONFLICT REPLACE`, `CHECK (…)`, `AUTOINCREMENT`. */
  readonly extra?: string | undefined
  /** Of a STRICT table: it gets values of its type only, since with a trigger SQLite looks at the type before it looks for a conflict. */
  readonly strict?: boolean
  /** Its default is another one each time, so that every INSERT names the column. */
  readonly volatile?: boolean
  /** A trigger of the library may name it, so that SQLite can't drop it outside of migrate(). */
  named?: boolean
}

export function q(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

export function list(names: readonly string[]): string {
  return names.map(q).join(', ')
}

export function text(value: string): string {
  return `'${value.replaceAll("'", "''")}'`
}

export function columnOf(table: Table, name: string): Column {
  const column = table.columns.find((one) => one.name === name)
  if (column === undefined) throw new Error(`${table.name} has no ${name}`)
  return column
}

/** Columns that a statement may write. */
export function writable(table: Table): Column[] {
  return table.columns.filter((column) => column.generated === undefined)
}

/** Columns by which records are known or hang together. */
export function isNoted(schema: Schema, table: Table, name: string): boolean {
  const below = schema.tables.filter((one) => one.parent?.table === table)
  return table.key.includes(name) || table.parent?.own.includes(name) === true || below.some((part) => part.parent?.others.includes(name))
}

/** The root of a table and all that hangs on it, from above to below. */
export function familyOf(schema: Schema, root: Table): Table[] {
  const parts = schema.tables.filter((table) => table.parent?.table === root)
  return [root, ...parts.flatMap((part) => familyOf(schema, part))]
}

export function rootsOf(schema: Schema): Table[] {
  return schema.tables.filter((table) => table.parent === undefined && !table.aside)
}
