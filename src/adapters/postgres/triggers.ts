import { hash } from 'node:crypto'
import type { HostColumn, HostTable } from '../../host-table.ts'
import type { TouchKind } from '../../ports.ts'
import { quote } from './tables.ts'
import { castable, isPlain, SETTINGS, settingsFor, textOf } from './values.ts'

/** A source with the number that its touches carry. */
export interface NumberedSource {
  readonly source: number
  readonly columns: readonly string[]
  /** The columns that they refer to; the columns themselves for roots. */
  readonly refers: readonly HostColumn[]
  /** Whether the columns are the table's own key: a delete is noted as such. */
  readonly root: boolean
}

/** A kind is stored as its number here. */
export const KINDS: readonly TouchKind[] = ['changed', 'deleted', 'exported', 'existing', 'whole', 'again', 'compared']

export const TOUCHES = 'sync_touches'

/**
 * No sequence and no identity: the host's lastval() would return ours. `seen` is what the transaction saw of others when it
 * touched; from it follows which transaction can have been the cause of which. A key is NULL where the whole table is touched.
 */
export function touchesTable(qualify: (name: string) => string): readonly string[] {
  return [
    `CREATE TABLE ${qualify(TOUCHES)} (xid xid8 NOT NULL DEFAULT pg_current_xact_id(), seen pg_snapshot NOT NULL DEFAULT pg_current_snapshot(),
       source integer NOT NULL, kind smallint NOT NULL, key text[])`,
    `CREATE INDEX ON ${qualify(TOUCHES)} (xid)`, // by no name: one that somebody renamed keeps its index
  ]
}

/** True where sync_touches is as `touchesTable` makes it: a column less, a constraint or a trigger more, and sales fail by it. */
export const TOUCHES_SOUND = `
  SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = '${TOUCHES}' AND c.relkind = 'r' AND c.relpersistence = 'p' AND NOT c.relrowsecurity AND NOT c.relhasrules
    AND (SELECT bool_and(has_table_privilege(c.oid, privilege)) FROM unnest('{INSERT,SELECT,DELETE}'::text[]) privilege)
    AND (SELECT string_agg(format('%s %s %s %s', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)), ', '
                           ORDER BY a.attnum)
         FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
      = 'xid xid8 t pg_current_xact_id(), seen pg_snapshot t pg_current_snapshot(), source integer t , kind smallint t , key text[] f '
    AND EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid)
    AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisunique)
    AND NOT EXISTS (SELECT FROM pg_trigger t WHERE t.tgrelid = c.oid)
    AND NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype <> 'n')`

/** PostgreSQL cuts names at 63 bytes. */
export function functionName(table: string): string {
  const name = `${FUNCTIONS}${table}`
  return Buffer.byteLength(name) <= 63 ? name : `${FUNCTIONS}${hash('sha256', table).slice(0, 32)}`
}

export const FUNCTIONS = 'sync_touch_'

/** The triggers of each table, by name, with their type as pg_trigger has it (https://www.postgresql.org/docs/current/catalog-pg-trigger.html). */
export const TRIGGERS = {
  sync_touch: { type: 29, when: 'AFTER INSERT OR UPDATE OR DELETE', each: 'ROW' },
  sync_truncate: { type: 32, when: 'AFTER TRUNCATE', each: 'STATEMENT' },
} as const

export type TriggerName = keyof typeof TRIGGERS

/** A setting that lasts as long as the transaction, or until the savepoint is given up that it was set behind: the touch that it noted last. */
export const TOUCHED = 'tillsync.touched'

/**
 * The body of a table's trigger function. Only the key is read, in a block of its own: whatever is wrong with it (a column that
 * was renamed, a type that was changed under a running session, our table dropped), the host's statement goes on, and the whole table is
 * touched where there still is where to note it.
 * PL/pgSQL makes each expression ready anew in every transaction, so an INSERT, which is what sales consist of, meets as few as can be;
 * and a row that would leave the same touch as the one before it, in the same table of ours, as lines of a receipt do, leaves none. What it then saw of others is compared too: by that
 * transactions are ordered.
 * It ends with what it runs under, so that bodies are equal where functions are; and with the partitions, so that one that came or
 * went with its rows, which no trigger sees, is noticed.
 */
export function functionBody(table: HostTable, sources: readonly NumberedSource[], touches: string, partitions: readonly string[]): string {
  const kind = (name: TouchKind) => KINDS.indexOf(name)
  const touch = (rows: readonly string[]) => `INSERT INTO ${touches} (source, kind, key) VALUES ${rows.join(', ')}`
  const changed = (ns: readonly number[]) => {
    const rows = ns.map((n) => `(${sources[n]?.source}, ${kind('changed')}, now_${n})`)
    const noted = `${touches} ${ns.map((n) => sources[n]?.source).join(' ')} `
    const seen = [literal(noted), 'pg_catalog.pg_current_snapshot()', ...ns.map((n) => `now_${n}`)]
    return `note_0 := pg_catalog.concat(${seen.join(', ')});
    IF (pg_catalog.current_setting('${TOUCHED}', true) ${IS} note_0) IS NOT TRUE THEN
      ${touch(rows)};
      note_0 := pg_catalog.set_config('${TOUCHED}', note_0, true);
    END IF;`
  }
  // As long as our table is there the condition holds. It depends on it: where that is dropped, it can't be made ready any more.
  const there = `TG_RELID ${IS_NOT} ${literal(touches)}::pg_catalog.regclass::pg_catalog.oid`
  const read = (into: 'now' | 'was', row: 'NEW' | 'OLD') =>
    sources.map(({ columns, refers }, n) => {
      const key = columns.map((name, at) => asReferred(columnOf(table, name), refers[at], inTrigger(columnOf(table, name), row)))
      return `${into}_${n} := CASE WHEN ${there} THEN ARRAY[${key.join(', ')}] END;`
    })
  const otherwise = `EXCEPTION WHEN OTHERS THEN
      IF pg_catalog.to_regclass(${literal(touches)}) IS NOT NULL THEN ${touch(sources.map(({ source }) => `(${source}, ${kind('whole')}, NULL)`))}; END IF;
      RETURN NULL;`
  const note = sources.flatMap(({ source, root }, n) => [
    `  IF now_${n} IS NOT NULL THEN\n    ${changed([n])}\n  END IF;`,
    `  IF now_${n} IS NULL OR now_${n} ${IS_NOT} was_${n} THEN ${touch([`(${source}, ${kind(root ? 'deleted' : 'changed')}, was_${n})`])}; END IF;`,
  ])
  return `
DECLARE
  note_0 pg_catalog.text;
${sources.map((_, n) => `  now_${n} pg_catalog.text[]; was_${n} pg_catalog.text[];`).join('\n')}
BEGIN
  IF TG_OP ${IS} 'INSERT' THEN
    BEGIN
      ${read('now', 'NEW').join('\n      ')}
    ${otherwise}
    END;
    ${changed(sources.map((_, n) => n))}
    RETURN NULL;
  END IF;
  BEGIN
    IF TG_OP ${IS} 'TRUNCATE' THEN RAISE EXCEPTION 'whole'; END IF;
    IF TG_OP ${IS} 'UPDATE' THEN
      ${read('now', 'NEW').join('\n      ')}
    END IF;
    ${read('was', 'OLD').join('\n    ')}
  ${otherwise}
  END;
${note.join('\n')}
  RETURN NULL;
END
-- ${settingsOf(table, sources).join('; ') || UNSET}; partitions: ${partitions.join(' ')}
`
}

/** A virtual column is NULL in a trigger (https://www.postgresql.org/docs/18/ddl-generated-columns.html): it is computed here, from the row. */
function inTrigger({ name, computed }: HostColumn, row: 'NEW' | 'OLD'): string {
  return computed === undefined ? `${row}.${quote(name)}` : `(SELECT ${computed} FROM (SELECT ${row}.*) AS row)`
}

/** Operators under whatever search path. */
const IS = 'OPERATOR(pg_catalog.=)'
const IS_NOT = 'OPERATOR(pg_catalog.<>)'

/** What the body of a function without settings says of them. */
export const UNSET = 'no settings'

/** A key as the table above writes it: a receipt 1 may be referred to as 1.00, or with blanks behind it. */
function asReferred(own: HostColumn, referred: HostColumn | undefined, value: string): string {
  if (referred === undefined || own.type === referred.type) return textOf(own, value)
  return textOf(referred, `${value}::${castable(referred)}`)
}

/**
 * A fixed search path, and of the settings those on which the text of the keys depends. Each costs a moment at every statement; so a
 * function has none where its keys are of types that depend on none, and whose cast names all by its schema.
 */
function settingsOf(table: HostTable, sources: readonly NumberedSource[]): string[] {
  const columns = sources.flatMap((source) => [...source.columns.map((name) => columnOf(table, name)), ...source.refers])
  const settings = settingsFor(columns)
  if (settings.length === 0 && columns.every((column) => isPlain(column) && column.computed === undefined)) return []
  return ['SET search_path = pg_catalog, pg_temp', ...settings.map((name) => `SET ${name} = '${SETTINGS[name]}'`)]
}

export function createFunction(name: string, table: HostTable, sources: readonly NumberedSource[], body: string): string {
  const settings = settingsOf(table, sources).join(' ')
  return `CREATE OR REPLACE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER ${settings} AS ${literal(body)}`
}

export function createTrigger(name: TriggerName, table: string, run: string): readonly string[] {
  const { when, each } = TRIGGERS[name]
  return [
    `CREATE OR REPLACE TRIGGER ${name} ${when} ON ${table} FOR EACH ${each} EXECUTE FUNCTION ${run}()`,
    `ALTER TABLE ${table} ENABLE ALWAYS TRIGGER ${name}`,
  ]
}

function columnOf(table: HostTable, name: string): HostColumn {
  return table.columns.find((column) => column.name === name) ?? { name, type: 'text', nullable: true, generated: false }
}

export function literal(text: string): string {
  return text.includes('\\') ? ` E'${text.replace(/[\\']/g, '\\$&')}'` : `'${text.replaceAll("'", "''")}'`
}
