import type { HostColumn } from '../../host-table.ts'
import type { MirrorOthers } from '../../mirroring.ts'
import { query, type Work } from '../../work.ts'
import { INTEGERS } from './values.ts'

/** How a unique value is given up: the column, and what it holds until its own value comes. */
export interface GivenUp {
  readonly column: string
  readonly value: string
  /** The columns by whose change a row is known to get another value. */
  readonly columns: readonly string[]
}

/** Columns of an index in its order, those of its expressions and its condition behind; of a partition's index too. */
const COLUMNS = `
  SELECT a.attname AS name, bool_or(a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1])) AS is_plain,
         bool_or(coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false)) AS nulls_collide
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = i.indrelid
  WHERE c.relname = $2 AND (i.indrelid = $1::text::regclass OR i.indrelid IN (SELECT relid FROM pg_partition_tree($1::text::regclass)))
    AND (a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1]) OR (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND EXISTS (
      SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))
  GROUP BY a.attname ORDER BY min(array_position((i.indkey::int2[])[0:i.indnkeyatts - 1], a.attnum)), 1`

/**
 * Ways in which rows can give up the value that they have in a unique index or an exclusion constraint, so that they can exchange theirs, the best first. A column that
 * the rows get anyway, or that is theirs no longer, holds NULL or a value that nobody has, for as long as the transaction writes the others.
 */
export function* waysToGiveUp(qualified: string, { table, constants, written }: MirrorOthers, index: string): Work<readonly GivenUp[]> {
  const columns = yield* query<{ name: string; is_plain: boolean; nulls_collide: boolean }>({ sql: COLUMNS, parameters: [qualified, index] })
  const names = columns.map(({ name }) => name)
  const ways = columns.flatMap(({ name, is_plain, nulls_collide }) => {
    const column = table.columns.find((one) => one.name === name)
    const isFixed = column?.generated || table.key.includes(name) || Object.hasOwn(constants, name)
    if (column === undefined || isFixed || written?.includes(name) === false) return []
    const refers = table.foreignKeys.some((foreignKey) => foreignKey.columns.includes(name))
    const values = [...(column.nullable && !nulls_collide ? ['NULL'] : []), ...(refers ? [] : nobodys(column))]
    // What is only in an expression, or in the condition, may leave the value as it is.
    return values.map((value) => ({ column: name, value, columns: names, rank: (is_plain ? 0 : 2) + (value === 'NULL' ? 0 : 1) }))
  })
  return ways.toSorted((a, b) => a.rank - b.rank)
}

/** A value of the type that no row is likely to have; none for types that have too few. */
function nobodys({ type, base = type }: HostColumn): readonly string[] {
  if (base === 'uuid') return ['gen_random_uuid()']
  if (['text', 'character varying', 'character'].includes(base)) return [`left('~' || md5(random()::text), ${/\((\d+)\)/.exec(type)?.[1] ?? 33})`]
  if (INTEGERS.includes(base)) return [`(-1 - floor(random() * ${base === 'smallint' ? 30_000 : 2_000_000_000}))::${base}`]
  if (['real', 'double precision'].includes(base)) return [`(-random())::${base}`]
  if (base === 'numeric') {
    const [, precision = '12', scale = '3'] = /\((\d+),(-?\d+)\)/.exec(type) ?? []
    return [`(-floor(random() * 10 ^ ${Number(precision) - Number(scale)}::numeric))::numeric`]
  }
  if (base === 'date' || base.startsWith('timestamp ')) return [`('0001-01-01'::date - floor(random() * 1000000)::integer)::${base}`]
  return /range$/.test(base) ? [`'${base.endsWith('multirange') ? '{}' : 'empty'}'::${base}`] : [] // overlaps none
}
