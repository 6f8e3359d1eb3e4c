import { query, type Work } from '../../work.ts'
import { OPAQUE } from './introspect.ts'
import { fold } from './triggers.ts'

/** A foreign key. SQLite keeps no names of them; ours is that which PostgreSQL would give. */
export interface Reference {
  readonly name: string
  readonly table: string
  readonly columns: readonly string[]
  readonly refersTo: string
  readonly refers: readonly string[]
  /** Whether SQLite may leave it until the end of every transaction, because it is declared so. */
  readonly isDeferred: boolean
}

interface Info {
  readonly table: string
  readonly sql: string
  readonly id: number
  readonly parent: string
  readonly own: string
  readonly theirs: string | null
}

/** The foreign keys of tables that are these or refer to these. */
export function* referencesOf(names: readonly string[]): Work<readonly Reference[]> {
  const wanted = new Set(names.map(fold))
  const all = yield* query<Info>({
    sql: `SELECT made.name AS "table", made.sql, keys.id, keys."table" AS parent, keys."from" AS own, keys."to" AS theirs
          FROM sqlite_schema AS made JOIN pragma_foreign_key_list(made.name, 'main') AS keys WHERE made.type = 'table' ORDER BY made.name, keys.id DESC, keys.seq`,
    parameters: [],
  })
  const near = new Set(all.filter(({ table, parent }) => wanted.has(fold(table)) || wanted.has(fold(parent))).map(({ table }) => table))
  const references: Reference[] = []
  for (const group of Map.groupBy(
    all.filter(({ table }) => near.has(table)),
    ({ table, id }) => `${id} ${table}`,
  ).values()) {
    const { table, sql } = group[0] as Info
    const columns = group.map(({ own }) => own)
    const name = nameOf(table, columns, references)
    const isDeferred = /\bINITIALLY\s+DEFERRED\b/i.test(sql.replace(OPAQUE, ' '))
    references.push({ name, table, columns, ...(yield* referred(group)), isDeferred })
  }
  return references
}

/** A table that is not there, or columns, stay as they are written: SQLite refuses to write then. */
function* referred(group: readonly Info[]): Work<Pick<Reference, 'refersTo' | 'refers'>> {
  const { parent } = group[0] as Info
  const columns = yield* query<{ name: string; table: string; pk: number }>({
    sql: `SELECT made.name AS "table", info.name, info.pk FROM sqlite_schema AS made JOIN pragma_table_xinfo(made.name, 'main') AS info
          WHERE made.type = 'table' AND made.name = ? COLLATE NOCASE ORDER BY info.pk`,
    parameters: [parent],
  })
  const key = columns.filter(({ pk }) => pk > 0)
  const refers = group.map(({ theirs }, at) => {
    const found = theirs === null ? key[at] : columns.find(({ name }) => fold(name) === fold(theirs))
    return found?.name ?? theirs ?? ''
  })
  return { refersTo: columns[0]?.table ?? parent, refers }
}

function nameOf(table: string, columns: readonly string[], before: readonly Reference[]): string {
  const name = `${table}_${columns.join('_')}_fkey`
  for (let n = 0; ; n++) {
    const numbered = n === 0 ? name : `${name}${n}`
    if (!before.some((reference) => reference.table === table && reference.name === numbered)) return numbered
  }
}
