import type { PoolClient } from 'pg'
import { TillsyncError } from '../../errors.ts'
import { query, type Work } from '../../work.ts'
import { DENIED, isDenied, isUnknown } from './errors.ts'
import { OWN_TYPES } from './parsers.ts'
import { quote } from './tables.ts'

/**
 * While one waits for a lock, sales queue behind; and whoever changes several tables in one transaction may come to wait for us while we
 * wait for them. We are the ones who give up, long before PostgreSQL looks for a deadlock and may end the host's transaction.
 */
export const LOCK_MS = 50
export const LOCK_BRIEFLY = `SET LOCAL lock_timeout = '${LOCK_MS}ms'`

/** The tables that were to be locked before the snapshot are not those that are read: the work is run again. */
export class Unlocked extends Error {}

/** Where the session has no `row_security`, policies that would hide rows make reading an error. */
const MAY_READ = "has_table_privilege(c.oid, 'SELECT') AND (current_setting('row_security') = 'on' OR NOT row_security_active(c.oid))"

const READABLE = `
  SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = ANY($2::text[]) AND c.relkind IN ('r', 'p') AND ${MAY_READ}`

/** Those of the tables that there are and that the role of the pool may read. */
export function* readableOf(schema: string, names: readonly string[]): Work<ReadonlySet<string>> {
  const rows = yield* query<{ name: string }>({ sql: READABLE, parameters: [schema, names] })
  return new Set(rows.map(({ name }) => name))
}

export function notReadable(table: string): TillsyncError {
  return new TillsyncError(
    'ERR_DATABASE',
    `\`${table}\` can't be read: the role of the pool has no right to, or policies apply to it, by which rows would look deleted`,
    {
      hint: "Let the table's owner run the library, or a role with SELECT, and BYPASSRLS where there are policies.",
      context: { table, sqlState: DENIED },
    },
  )
}

/**
 * The host's tables that the collector reads. They are locked against changes of the schema before the snapshot is taken: one that is
 * rewritten or truncated after that looks empty to it, and a column that is renamed is not found.
 */
export class ReadTables {
  private readonly schema: string
  private readonly names = new Set<string>()
  private locked: readonly string[] = []

  constructor(schema: string) {
    this.schema = schema
  }

  /** What there is to read of the tables that somebody asks for. */
  note(wanted: readonly string[], found: { has(name: string): boolean }): void {
    for (const name of wanted) {
      if (found.has(name)) this.names.add(name)
      else this.names.delete(name)
    }
  }

  /** Whether it was there, and readable, when it was last asked for. */
  has(name: string): boolean {
    return this.names.has(name)
  }

  /** The first statement of a transaction. */
  async lock(client: PoolClient): Promise<void> {
    this.locked = [...this.names]
    if (this.locked.length === 0) return
    const tables = this.locked.map((name) => `${quote(this.schema)}.${quote(name)}`)
    try {
      await client.query(`LOCK TABLE ${tables.join(', ')} IN ACCESS SHARE MODE`)
    } catch (error) {
      if (!isUnknown(error) && !isDenied(error)) throw error
      await client.query('ROLLBACK')
      const { rows } = await client.query<{ name: string }>({ text: READABLE, values: [this.schema, this.locked], types: OWN_TYPES })
      this.note(this.locked, new Set(rows.map(({ name }) => name)))
      throw new Unlocked()
    }
  }

  /** @throws Unlocked where work has come to know other tables than were locked for it */
  check(): void {
    if ([...this.names].some((name) => !this.locked.includes(name))) throw new Unlocked()
  }
}
