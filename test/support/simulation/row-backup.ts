import type { Pool } from 'pg'

/** All rows of a schema, as JSON by table. */
export type RowBackup = ReadonlyMap<string, string>

/** The tables of a PostgreSQL schema, kept and put back without making any. */
export class Rows {
  private readonly pool: Pool
  private readonly schema: string
  private tables: readonly string[] | undefined

  constructor(pool: Pool, schema: string) {
    this.pool = pool
    this.schema = schema
  }

  async backup(): Promise<RowBackup> {
    const parts = (await this.names()).map(
      (name) => `SELECT ${quoted(name)} AS name, json_agg(t)::text AS rows FROM ${this.schema}.${quoteName(name)} t`,
    )
    const { rows } = await this.pool.query<{ name: string; rows: string | null }>(parts.join(' UNION ALL '))
    return new Map(rows.map(({ name, rows }) => [name, rows ?? '[]']))
  }

  async restore(backup: RowBackup): Promise<void> {
    const statements = (await this.names()).flatMap((name) => {
      const [table, rows] = [`${this.schema}.${quoteName(name)}`, backup.get(name) ?? '[]']
      const insert = `INSERT INTO ${table} OVERRIDING SYSTEM VALUE SELECT * FROM json_populate_recordset(NULL::${table}, ${quoted(rows)})`
      return [`DELETE FROM ${table}`, ...(rows === '[]' ? [] : [insert])]
    })
    await this.pool.query(['BEGIN', "SET LOCAL session_replication_role = 'replica'", ...statements, 'COMMIT'].join(';'))
  }

  /** Gives back the room of what was deleted. */
  async empty(): Promise<void> {
    await this.pool.query(`TRUNCATE ${(await this.names()).map((name) => `${this.schema}.${quoteName(name)}`).join(', ')}`)
  }

  private async names(): Promise<readonly string[]> {
    if (this.tables !== undefined) return this.tables
    // What a till's triggers note while rows come back is put right in the end.
    const { rows } = await this.pool.query<{ name: string }>(
      "SELECT tablename AS name FROM pg_tables WHERE schemaname = $1 ORDER BY tablename = 'sync_touches', tablename",
      [this.schema],
    )
    this.tables = rows.map(({ name }) => name)
    return this.tables
  }
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "''")}'`
}

function quoteName(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}
