import { TillsyncError } from '../../errors.ts'
import type { HostColumn, HostTable } from '../../host-table.ts'
import { lookup, query, type Work } from '../../work.ts'
import { literal } from './triggers.ts'
import { encoderOf, INTEGERS } from './values.ts'

interface ColumnInfo {
  readonly table_name: string
  readonly name: string
  readonly type: string
  readonly nullable: boolean
  /** One that takes different texts for equal. */
  readonly collation: string | null
  readonly generated: boolean
  /** What a virtual column is computed by, as SQL over the columns of its table. */
  readonly computed: string | null
  /** Beneath domains, by a name that needs no search path. */
  readonly base: string
  /** Another one where its type, its expression or the labels of its enum are. */
  readonly revision: string
  /** A sequence hands out its values. */
  readonly numbered: boolean
  /** The default, as SQL. */
  readonly otherwise: string | null
  /** What rows hold that were there before the column, in an array of one. */
  readonly missing: string | null
}

interface UniqueInfo {
  readonly table_name: string
  readonly primary: boolean
  readonly columns: readonly string[]
}

const COLUMNS = `
  SELECT c.relname AS table_name, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
         NOT a.attnotnull AS nullable,
         (SELECT format('%I.%I', s.nspname, l.collname) FROM pg_collation l JOIN pg_namespace s ON s.oid = l.collnamespace
          WHERE l.oid = a.attcollation AND NOT l.collisdeterministic) AS collation,
         a.attidentity <> '' OR coalesce(starts_with(pg_get_expr(d.adbin, d.adrelid), 'nextval('), false) AS numbered, a.attgenerated <> '' OR a.attidentity = 'a' AS generated,
         CASE WHEN a.attgenerated = 'v' THEN pg_get_expr(d.adbin, d.adrelid) END AS computed,
         beneath.name AS base, concat(a.xmin, CASE WHEN a.attgenerated <> '' THEN ' ' || d.xmin END, ' ' || beneath.labels) AS revision,
         CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS otherwise,
         CASE WHEN a.atthasmissing THEN a.attmissingval::text END AS missing
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
  CROSS JOIN LATERAL (
    WITH RECURSIVE types AS (
      SELECT t.oid, t.typbasetype FROM pg_type t WHERE t.oid = a.atttypid
      UNION ALL SELECT t.oid, t.typbasetype FROM types d JOIN pg_type t ON t.oid = d.typbasetype)
    SELECT CASE WHEN n.nspname = 'pg_catalog' THEN format_type(u.oid, NULL)
                WHEN u.typcategory = 'A' THEN (SELECT format('%I.%I[]', n.nspname, e.typname) FROM pg_type e WHERE e.oid = u.typelem)
                ELSE format('%I.%I', n.nspname, u.typname) END AS name,
           (SELECT md5(string_agg(format('%s %s', l.oid, l.enumlabel), ', ' ORDER BY l.oid)) FROM pg_enum l WHERE l.enumtypid IN (u.oid, u.typelem)) AS labels
    FROM types JOIN pg_type u USING (oid) JOIN pg_namespace n ON n.oid = u.typnamespace WHERE types.typbasetype = 0) AS beneath
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
    const described = own.map(({ name, type, nullable, collation, generated, computed, base, revision }) => ({
      name,
      type,
      nullable,
      generated,
      base,
      revision,
      ...(collation !== null && { collation }),
      ...(computed !== null && { computed }),
    }))
    const initials = yield* initialsOf(described, own)
    const key = indexes.find((index) => index.primary)?.columns ?? []
    tables.set(name, {
      name,
      columns: described.map((column, at) => ({ ...column, initial: initials[at] as string })),
      key,
      reusesKeys: key.length === 1 && own.some((column) => column.name === key[0] && INTEGERS.includes(column.base) && !column.numbered),
      uniques: indexes
        .filter((index) => !index.primary)
        .map((index) => ({ columns: index.columns.map((column) => ({ name: column, collation: '' })) })),
    })
  }
  return tables
}

/** A constant as `pg_get_expr` writes it. Nothing else is evaluated: a default may well be `nextval(…)`. */
const CONSTANT = /^(\(?-?\d+(\.\d+)?\)?|'([^']|'')*'|true|false|NULL)(::[\w "().[\]]+)?$/

/** The initial values of columns as JSON texts. */
function* initialsOf(columns: readonly HostColumn[], infos: readonly ColumnInfo[]): Work<readonly string[]> {
  const values = infos.map(({ otherwise, missing, type }) => {
    if (otherwise !== null && CONSTANT.test(otherwise)) return `(${otherwise})::${type}`
    // By way of its text: an array of arrays would be read as one of more dimensions.
    return missing === null ? 'NULL' : `(${literal(missing)}::text[])[1]::${type}`
  })
  if (values.every((value) => value === 'NULL')) return values.map(() => 'null')
  return yield* evaluated(columns, values)
}

/** A default that is no value of its column, as PostgreSQL takes them, is no initial value; the others are. */
function* evaluated(columns: readonly HostColumn[], values: readonly string[]): Work<readonly string[]> {
  try {
    const [rows] = yield* lookup({ sql: `SELECT ${values.join(', ')}`, parameters: [] }, [[]])
    return columns.map((column, at) => encoderOf(column)(rows?.[0]?.[at] ?? null))
  } catch (error) {
    if (!(error instanceof TillsyncError) || error.retryable) throw error
    if (columns.length === 1) return ['null']
    const all: string[] = []
    for (const [at, column] of columns.entries()) all.push(...(yield* evaluated([column], [values[at] as string])))
    return all
  }
}
