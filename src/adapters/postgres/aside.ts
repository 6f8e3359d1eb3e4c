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

/** Columns of a unique index, its expressions' and its condition's included; of a partition's index too. */
const COLUMNS = `
  SELECT DISTINCT a.attname AS name, coalesce((to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false) AS nulls_collide
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = i.indrelid
  WHERE c.relname = $2 AND (i.indrelid = $1::text::regclass OR i.indrelid IN (SELECT relid FROM pg_partition_tree($1::text::regclass)))
    AND (a.attnum = ANY((i.indkey::int2[])[0:i.indnkeyatts - 1]) OR (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL) AND EXISTS (
      SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))`

/**
 * How rows can give up the value that they have in a unique index, so that they can exchange theirs; undefined where they can't. A column that
 * the rows get anyway, or that is theirs no longer, holds NULL or a value that nobody has, for as long as the transaction writes the others.
 */
export function* givenUp(qualified: string, { table, constants, written }: MirrorOthers, unique: string): Work<GivenUp | undefined> {
  const columns = yield* query<{ name: string; nulls_collide: boolean }>({ sql: COLUMNS, parameters: [qualified, unique] })
  const names = columns.map(({ name }) => name)
  const collide = columns.some(({ nulls_collide }) => nulls_collide)
  const found = table.columns.flatMap((column): GivenUp[] => {
    const { name, nullable, generated } = column
    const isFixed = generated || table.key.includes(name) || Object.hasOwn(constants, name)
    if (!names.includes(name) || isFixed || written?.includes(name) === false) return []
    if (nullable && !collide) return [{ column: name, value: 'NULL', columns: names }]
    const refers = table.foreignKeys.some((foreignKey) => foreignKey.columns.includes(name))
    const value = refers ? undefined : nobodys(column)
    return value === undefined ? [] : [{ column: name, value, columns: names }]
  })
  return found.find(({ value }) => value === 'NULL') ?? found[0]
}

/** A value of the type that no row is likely to have; undefined for types that have too few. */
function nobodys({ type, base = type }: HostColumn): string | undefined {
  if (base === 'uuid') return 'gen_random_uuid()'
  if (['text', 'character varying', 'character'].includes(base)) return `left('~' || md5(random()::text), ${/\((\d+)\)/.exec(type)?.[1] ?? 33})`
  if (INTEGERS.includes(base)) return `(-1 - floor(random() * ${base === 'smallint' ? 30_000 : 2_000_000_000}))::${base}`
  if (['real', 'double precision'].includes(base)) return `(-random())::${base}`
  if (base === 'numeric') {
    const [, precision = '12', scale = '3'] = /\((\d+),(-?\d+)\)/.exec(type) ?? []
    return `(-floor(random() * 10 ^ ${Number(precision) - Number(scale)}::numeric))::numeric`
  }
  if (base === 'date' || base.startsWith('timestamp ')) return `('0001-01-01'::date - floor(random() * 1000000)::integer)::${base}`
  return undefined
}
