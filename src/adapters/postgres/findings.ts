import type { Finding } from '../../model.ts'
import { query, type Work } from '../../work.ts'

const HIDDEN = `
  SELECT c.relname::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = $1 AND c.relname = ANY($2::text[]) AND row_security_active(c.oid)`

export function* findingsOf(schema: string, tables: readonly string[]): Work<readonly Finding[]> {
  const findings: Finding[] = []
  for (const { name } of yield* query<{ name: string }>({ sql: HIDDEN, parameters: [schema, tables] })) {
    findings.push({
      code: 'ROW_SECURITY',
      table: name,
      message: `Policies of \`${name}\` apply to the library's role; reading the table is an error, for rows that a policy hides would look deleted`,
      hint: "Let the table's owner run the library, or a role with BYPASSRLS.",
    })
  }
  const settings = yield* query<{ name: string }>({
    sql: `SELECT name FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') AND reset_val = 'off' ORDER BY name`,
    parameters: [],
  })
  for (const { name } of settings) {
    findings.push({
      code: 'NOT_DURABLE',
      message: `The server runs with ${name} = off: a power cut can take back a sale that the cashier has seen`,
      hint: `Set ${name} = on, at least for the role that sells.`,
    })
  }
  return findings
}
