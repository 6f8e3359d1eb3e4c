import { TillsyncError } from '../../errors.ts'
import type { HostTable } from '../../host-table.ts'
import type { ForeignKey, MirrorTarget } from '../../mirroring.ts'
import { query, type Work } from '../../work.ts'
import { isUnknown } from './errors.ts'
import { describe } from './introspect.ts'
import { BY_INDEX } from './planning.ts'

/** What PostgreSQL must know of a table to write a mirror's rows. */
export interface PostgresTarget extends MirrorTarget {
  /** Columns that PostgreSQL numbers itself and lets nobody else write, unless he says so. */
  readonly numbered: readonly string[]
  /** Collations, as SQL, of columns where it takes different texts for equal. */
  readonly loose: Readonly<Record<string, string>>
  /** Whether there is a unique or exclusion constraint or index beside the primary key's, partial and over expressions included; or one that is an exclusion constraint. */
  readonly hasUniques: boolean
  /** Whether ON CONFLICT knows the primary key; not where it may be checked at the end of the transaction, or is WITHOUT OVERLAPS. */
  readonly hasConflicts: boolean
}

interface TargetRow {
  readonly table_name: string
  readonly numbered: readonly string[]
  readonly loose: string
  readonly has_uniques: boolean
  readonly has_conflicts: boolean
  readonly is_referred_to: boolean
  readonly is_deferrable: boolean
}

interface ForeignKeyRow {
  readonly table_name: string
  readonly name: string
  readonly columns: readonly string[]
  readonly refers_to: string
  readonly deferrable: boolean
}

const FOREIGN_KEYS = `
  SELECT r.relname AS table_name, c.conname AS name, other.relname AS refers_to, c.condeferrable AS deferrable,
         (SELECT array_agg(a.attname::text ORDER BY k.ordinality) FROM unnest(c.conkey) WITH ORDINALITY k(attnum, ordinality)
          JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = k.attnum) AS columns
  FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace JOIN pg_class other ON other.oid = c.confrelid
  WHERE c.contype = 'f' AND n.nspname = $1 AND r.relname = ANY($2::text[]) AND other.relnamespace = r.relnamespace ORDER BY c.conname`

const TARGETS = `
  SELECT r.relname AS table_name,
         ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = r.oid AND a.attidentity = 'a' AND NOT a.attisdropped) AS numbered,
         coalesce((SELECT json_object_agg(a.attname, format('%I.%I', s.nspname, l.collname)) FROM pg_attribute a JOIN pg_collation l ON l.oid = a.attcollation
                   JOIN pg_namespace s ON s.oid = l.collnamespace WHERE a.attrelid = r.oid AND NOT l.collisdeterministic), '{}')::text AS loose,
         EXISTS(SELECT FROM pg_index i WHERE i.indrelid = r.oid AND (i.indisunique AND NOT i.indisprimary OR i.indisexclusion)) AS has_uniques,
         EXISTS(SELECT FROM pg_index i WHERE i.indrelid = r.oid AND i.indisprimary AND i.indimmediate AND NOT i.indisexclusion) AS has_conflicts,
         EXISTS(SELECT FROM pg_constraint c WHERE c.contype = 'f' AND c.confrelid = r.oid) AS is_referred_to,
         EXISTS(SELECT FROM pg_constraint c WHERE c.condeferrable AND (c.conrelid = r.oid OR c.confrelid = r.oid)) AS is_deferrable
  FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace WHERE n.nspname = $1 AND r.relname = ANY($2::text[])`

const PLANNED_BY_INDEX = Object.entries(BY_INDEX)
  .map(([name, value]) => `(SELECT set_config('${name}', '${value}', true)) AS ${name}`)
  .join(', ')

/**
 * The tables that mirrors write, remembered until somebody alters them. To look whether somebody has costs one query for
 * all of them, which also holds them: an ALTER waits until the transaction ends.
 */
export class Targets {
  private readonly schema: string
  private readonly qualify: (name: string) => string
  private readonly known = new Map<string, PostgresTarget>()

  constructor(schema: string, qualify: (name: string) => string) {
    this.schema = schema
    this.qualify = qualify
  }

  *read(names: readonly string[]): Work<ReadonlyMap<string, PostgresTarget>> {
    const wanted = [...new Set(names)]
    const there = wanted.every((name) => this.known.has(name)) ? wanted : yield* this.existing(wanted)
    if (there.length === 0) return new Map()
    const versions = yield* this.hold(there)
    const changed = there.filter((name) => this.known.get(name)?.version !== versions.get(name))
    if (changed.length > 0) {
      for (const name of changed) this.known.delete(name)
      for (const [name, table] of yield* this.describe(changed)) this.known.set(name, { ...table, version: versions.get(name) as string })
    }
    return new Map(there.flatMap((name) => (this.known.has(name) ? [[name, this.known.get(name) as PostgresTarget]] : [])))
  }

  private *existing(names: readonly string[]): Work<readonly string[]> {
    const rows = yield* query<{ name: string }>({
      sql: `SELECT r.relname AS name FROM pg_class r JOIN pg_namespace n ON n.oid = r.relnamespace
            WHERE n.nspname = $1 AND r.relname = ANY($2::text[]) AND r.relkind IN ('r', 'p')`,
      parameters: [this.schema, names],
    })
    const there = new Set(rows.map(({ name }) => name))
    return names.filter((name) => there.has(name))
  }

  /** Whatever alters a table leaves another version of one of these rows. What is planned from here on goes by indexes. */
  private *hold(names: readonly string[]): Work<ReadonlyMap<string, string>> {
    const numbers = names.map((_, n) => `($${n + 1}::text, $${names.length + n + 1}::text::regclass)`)
    const held = names.map((name) => `NOT EXISTS (SELECT FROM ONLY ${this.qualify(name)} WHERE false)`)
    try {
      const rows = yield* query<{ name: string; version: string }>({
        sql: `SELECT t.name, t.id::oid || ' ' || (SELECT md5(string_agg(v, ' ' ORDER BY v)) FROM (
                SELECT 'a' || attnum || ' ' || xmin FROM pg_catalog.pg_attribute WHERE attrelid = t.id
                UNION ALL SELECT 'y' || y.oid || ' ' || y.xmin FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type y ON y.oid = a.atttypid WHERE a.attrelid = t.id
                UNION ALL SELECT 'i' || indexrelid || ' ' || xmin FROM pg_catalog.pg_index WHERE indrelid = t.id
                UNION ALL SELECT 'c' || oid || ' ' || xmin FROM pg_catalog.pg_constraint WHERE conrelid = t.id
                UNION ALL SELECT 't' || oid || ' ' || xmin FROM pg_catalog.pg_trigger WHERE tgrelid = t.id) AS parts(v)) AS version, ${PLANNED_BY_INDEX}
              FROM (VALUES ${numbers.join(', ')}) AS t(name, id) WHERE ${held.join(' AND ')}`,
        parameters: [...names, ...names.map((name) => this.qualify(name))],
      })
      return new Map(rows.map(({ name, version }) => [name, version]))
    } catch (error) {
      if (!isUnknown(error)) throw error
      this.known.clear()
      throw new TillsyncError('ERR_UNKNOWN_TABLE', 'A table that mirror() writes to was dropped or renamed just now', {
        hint: 'It is looked for again with the next try.',
        context: { tables: names },
        cause: error,
      })
    }
  }

  private *describe(names: readonly string[]): Work<ReadonlyMap<string, Omit<PostgresTarget, 'version'>>> {
    const tables: ReadonlyMap<string, HostTable> = yield* describe(this.schema, names)
    const rows = yield* query<TargetRow>({ sql: TARGETS, parameters: [this.schema, names] })
    const foreignKeys = yield* query<ForeignKeyRow>({ sql: FOREIGN_KEYS, parameters: [this.schema, names] })
    const targets = new Map<string, Omit<PostgresTarget, 'version'>>()
    for (const row of rows) {
      const table = tables.get(row.table_name)
      if (table === undefined) continue
      const own = foreignKeys.filter(({ table_name }) => table_name === row.table_name)
      targets.set(row.table_name, {
        ...table,
        numbered: row.numbered,
        loose: JSON.parse(row.loose),
        hasUniques: row.has_uniques,
        hasConflicts: row.has_conflicts,
        isReferredTo: row.is_referred_to,
        isDeferrable: row.is_deferrable,
        foreignKeys: own.map(({ name, columns, refers_to, deferrable }): ForeignKey => ({ name, columns, refersTo: refers_to, deferrable })),
      })
    }
    return targets
  }
}
