import type { TableRead } from '../../ports.ts'
import { query, type Statement, type Work } from '../../work.ts'
import { lookupSql } from './lookup.ts'

interface PlanNode {
  readonly 'Node Type': string
  readonly 'Relation Name'?: string
  readonly Schema?: string
  readonly 'Index Cond'?: string
  readonly Plans?: readonly PlanNode[]
}

/** The table that a name stands for: the partitioned one, or the one that is inherited from. */
const TABLES = `
  WITH RECURSIVE up AS (
    SELECT c.relname::text AS name, n.nspname::text AS schema, c.oid AS root
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE (n.nspname, c.relname) IN (SELECT * FROM unnest($1::text[], $2::text[]))
    UNION ALL SELECT up.name, up.schema, i.inhparent FROM up JOIN pg_inherits i ON i.inhrelid = up.root)
  SELECT up.name, up.schema, c.relname::text AS root, n.nspname::text AS root_schema
  FROM up JOIN pg_class c ON c.oid = up.root JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = up.root)`

/**
 * What a lookup reads, by its plan: views and texts of SQL hide nothing. With sequential scans forbidden, PostgreSQL still plans one
 * where no index serves, however small the table.
 */
export function* inspect(schema: string, statement: Statement, keyWidth: number): Work<readonly TableRead[]> {
  const { text, values } = lookupSql({ kind: 'lookup', keys: [Array<null>(keyWidth).fill(null)], ...statement })
  yield* query({ sql: 'SET LOCAL enable_seqscan = off', parameters: [] })
  const [row] = yield* query<{ 'QUERY PLAN': string }>({ sql: `EXPLAIN (FORMAT JSON, VERBOSE) ${text}`, parameters: values })
  yield* query({ sql: 'SET LOCAL enable_seqscan = on', parameters: [] })
  const scans = nodesOf((JSON.parse(row?.['QUERY PLAN'] ?? '[]') as { readonly Plan: PlanNode }[]).map(({ Plan }) => Plan))
  const tables = yield* query<{ name: string; schema: string; root: string; root_schema: string }>({
    sql: TABLES,
    parameters: [scans.map((node) => node.Schema), scans.map((node) => node['Relation Name'])],
  })
  return scans.map((node) => {
    const table = tables.find(({ name, schema }) => name === node['Relation Name'] && schema === node.Schema)
    const name = table?.root ?? (node['Relation Name'] as string)
    return { table: table?.root_schema === schema ? name : `${table?.root_schema}.${name}`, whole: isWalk(node) }
  })
}

/** An index that is read without a condition is read from one end to the other. */
function isWalk(node: PlanNode): boolean {
  return node['Node Type'] === 'Seq Scan' || (node['Node Type'].startsWith('Index') && node['Index Cond'] === undefined)
}

function nodesOf(plans: readonly PlanNode[]): readonly PlanNode[] {
  return plans.flatMap((plan) => [...(plan['Relation Name'] === undefined ? [] : [plan]), ...nodesOf(plan.Plans ?? [])])
}
