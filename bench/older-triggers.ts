/** Two ways in which older systems capture: a trigger writes the whole row into a log table, as text. */
export const OLDER_WAYS = ['CSV', 'JSON'] as const

export type OlderWay = (typeof OLDER_WAYS)[number]

export const CHANGE_LOG = 'change_log'

const EVENTS = { INSERT: 'NEW', UPDATE: 'NEW', DELETE: 'OLD' } as const

/** The triggers of a table of SQLite. */
export function olderTriggersOfSqlite(way: OlderWay, table: string, columns: readonly string[]): string {
  return Object.entries(EVENTS)
    .map(([event, row]) => {
      const json = `json_object(${columns.map((column) => `'${column}', ${row}.${column}`).join(', ')})`
      const record = way === 'JSON' ? json : csv(columns.map((column) => `${row}.${column}`))
      return `CREATE TRIGGER older_${table}_${event} AFTER ${event} ON ${table} BEGIN
        INSERT INTO ${CHANGE_LOG} (table_name, operation, record) VALUES ('${table}', '${event}', ${record});
      END;`
    })
    .join('\n')
}

/** The trigger of a table of PostgreSQL, and its function. */
export function olderTriggerOfPostgres(way: OlderWay, table: string, columns: readonly string[]): string {
  const record = (row: 'NEW' | 'OLD') => (way === 'JSON' ? `to_jsonb(${row})::text` : csv(columns.map((column) => `${row}.${column}::text`)))
  return `CREATE FUNCTION older_${table}() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      IF TG_OP = 'DELETE' THEN
        INSERT INTO ${CHANGE_LOG} (table_name, operation, record) VALUES ('${table}', TG_OP, ${record('OLD')});
      ELSE
        INSERT INTO ${CHANGE_LOG} (table_name, operation, record) VALUES ('${table}', TG_OP, ${record('NEW')});
      END IF;
      RETURN NULL;
    END $$;
    CREATE TRIGGER older AFTER INSERT OR UPDATE OR DELETE ON ${table} FOR EACH ROW EXECUTE FUNCTION older_${table}();`
}

function csv(values: readonly string[]): string {
  return values.map((value) => `'"' || coalesce(replace(${value}, '"', '""'), '') || '"'`).join(` || ',' || `)
}
