import { type HostTable, query, type Work } from '../../ports.ts'

interface ColumnInfo {
  readonly table_name: string
  readonly name: string
  readonly type: string
  readonly nullable: boolean
  readonly generated: boolean
}

interface UniqueInfo {
  readonly table_name: string
  readonly primary: boolean
  readonly columns: readonly string[]
}

const COLUMNS = `
  SELECT c.relname AS table_name, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
         NOT a.attnotnull AS nullable, a.attgenerated <> '' OR a.attidentity = 'a' AS generated
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
  WHERE n.nspname = $1 AND c.relname = ANY($2::text[]) AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
  ORDER BY c.relname, a.attnum`

const UNIQUES = `
  SELECT c.relname AS table_name, i.indisprimary AS primary,
         (SELECT array_agg(a.attname::text ORDER BY k.ordinality) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, ordinality)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum) AS columns
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_index i ON i.indrelid = c.oid
  WHERE n.nspname = $1 AND c.relname = ANY($2::text[]) AND c.relkind IN ('r', 'p')
    AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid`

/** The tables of these names in a schema, by PostgreSQL's catalogue. Views and foreign tables are not there. */
export function* describe(schema: string, names: readonly string[]): Work<ReadonlyMap<string, HostTable>> {
  const wanted = [...new Set(names)]
  const columns = yield* query<ColumnInfo>({ sql: COLUMNS, parameters: [schema, wanted] })
  const uniques = yield* query<UniqueInfo>({ sql: UNIQUES, parameters: [schema, wanted] })
  const tables = new Map<string, HostTable>()
  for (const [name, own] of Map.groupBy(columns, (column) => column.table_name)) {
    const indexes = uniques.filter((unique) => unique.table_name === name)
    tables.set(name, {
      name,
      columns: own.map(({ name, type, nullable, generated }) => ({ name, type, nullable, generated })),
      key: indexes.find((index) => index.primary)?.columns ?? [],
      uniques: indexes
        .filter((index) => !index.primary)
        .map((index) => ({ columns: index.columns.map((column) => ({ name: column, collation: '' })) })),
    })
  }
  return tables
}
