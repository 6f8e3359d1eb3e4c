import { createHash } from 'node:crypto'
import type { Database } from 'better-sqlite3'
import type { Pool } from 'pg'

/** A digest of every table of an SQLite database and of its schema: equal digests are equal databases. */
export function snapshotOf(db: Database): string {
  return createHash('sha256').update(db.serialize()).digest('hex')
}

/** The schema of an SQLite database, name → SQL. */
export function schemaOf(db: Database): Readonly<Record<string, unknown>> {
  const rows = db.prepare("SELECT type || ' ' || name AS name, sql FROM sqlite_schema ORDER BY 1").all() as { name: string; sql: string }[]
  return Object.fromEntries(rows.map(({ name, sql }) => [name, sql]))
}

/** Every table of a PostgreSQL schema with its number of rows and a digest of their contents. */
export async function tablesOf(pool: Pool, schema = 'public'): Promise<Readonly<Record<string, string>>> {
  const { rows } = await pool.query<{ name: string }>('SELECT tablename AS name FROM pg_tables WHERE schemaname = $1 ORDER BY 1', [schema])
  const contents: Record<string, string> = {}
  for (const { name } of rows) {
    const digest = await pool.query<{ digest: string }>(
      `SELECT count(*) || ' rows ' || coalesce(md5(string_agg(t::text, E'\\n' ORDER BY t::text)), '') AS digest FROM "${schema}"."${name.replaceAll('"', '""')}" t`,
    )
    contents[name] = digest.rows[0]?.digest ?? ''
  }
  return contents
}
