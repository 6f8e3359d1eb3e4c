import { createRequire } from 'node:module'

/** SQLite 3.39, compiled for JavaScript: an engine as old as the oldest host's. A database of it lives in memory. */
export interface OldDatabase {
  exec(sql: string): readonly { readonly columns: readonly string[]; readonly values: readonly unknown[][] }[]
  getRowsModified(): number
  export(): Uint8Array
  close(): void
}

interface Module {
  readonly Database: new (bytes?: Uint8Array) => OldDatabase
}

export async function openOldSqlite(): Promise<(bytes: Uint8Array) => OldDatabase> {
  const load = createRequire(import.meta.url)('sql.js') as () => Promise<Module>
  const { Database } = await load()
  return (bytes) => new Database(bytes)
}

/** What the host gets from a statement. */
export function outcomeOf(db: OldDatabase, sql: string): unknown {
  try {
    return { rows: db.exec(sql), changes: db.getRowsModified() }
  } catch (error) {
    return { message: (error as Error).message }
  }
}
