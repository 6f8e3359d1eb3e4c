import { type Column, list, q, type Schema, type Table, type Unique } from './model.ts'

/** The statements that make a table as the model has it, under another name where one is given; its unique indexes are made apart. */
export function createTable(schema: Schema, table: Table, name = table.name): string[] {
  const parts = table.columns.map((column) => columnSql(schema, column))
  const key = keySql(table)
  if (key !== undefined) parts.push(key)
  for (const unique of table.uniques) {
    if (unique.constraint === undefined) continue
    parts.push(`UNIQUE (${uniqueColumns(schema, unique)})${unique.constraint === '' ? '' : ` ${unique.constraint}`}`)
  }
  const foreign = table.parent?.foreign
  if (table.parent !== undefined && foreign !== undefined)
    parts.push(`FOREIGN KEY (${list(table.parent.own)}) REFERENCES ${q(table.parent.table.name)} (${list(table.parent.others)}) ${foreign}`)
  const options = table.options.length === 0 ? '' : ` ${table.options.join(schema.dialect === 'sqlite' ? ', ' : ' ')}`
  return [
    `CREATE TABLE ${q(name)} (${parts.join(', ')})${options}`,
    ...table.partitions.map((partition) => `CREATE TABLE ${q(partition.name)} PARTITION OF ${q(name)} ${partition.bounds}`),
  ]
}

export function columnSql(schema: Schema, column: Column): string {
  const collation = column.collation === undefined ? '' : ` COLLATE ${schema.dialect === 'sqlite' ? column.collation : q(column.collation)}`
  const generated = column.generated === undefined ? '' : ` ${column.generated}`
  const initial = column.default === undefined ? '' : ` DEFAULT ${column.default}`
  return `${q(column.name)} ${column.type}${collation}${column.notNull ? ' NOT NULL' : ''}${column.extra ? ` ${column.extra}` : ''}${initial}${generated}`
}

/** SQLite: `INTEGER PRIMARY KEY` stands with its column, which is then the row's number. */
function keySql(table: Table): string | undefined {
  if (table.columns.some((column) => column.extra?.includes('PRIMARY KEY'))) return undefined
  return `PRIMARY KEY (${list(table.key)})${table.keyConflict === undefined ? '' : ` ${table.keyConflict}`}`
}

export function createUniques(schema: Schema, table: Table): string[] {
  return table.uniques.filter((unique) => unique.constraint === undefined).map((unique) => createUnique(schema, table, unique))
}

export function createUnique(schema: Schema, table: Table, unique: Unique): string {
  const where = unique.where === undefined ? '' : ` WHERE ${unique.where.text.replace('?', () => q(unique.where?.column ?? ''))}`
  return `CREATE UNIQUE INDEX ${q(unique.name)} ON ${q(table.name)} (${uniqueColumns(schema, unique)})${where}`
}

function uniqueColumns(schema: Schema, unique: Unique): string {
  return unique.columns
    .map(({ name, collation }) => {
      if (collation === undefined) return q(name)
      return `${q(name)} COLLATE ${schema.dialect === 'sqlite' ? collation : q(collation)}`
    })
    .join(', ')
}
