import type { Database as Connection } from 'better-sqlite3'
import type { TillsyncError } from '../../errors.ts'
import type { Finding } from '../../model.ts'

/** A second connection makes the host's wait for some milliseconds; see docs/guarantees.md. */
const LEAST_BUSY_TIMEOUT_MS = 250
const FULL = 2

export function connectionFindings(host: Connection): Finding[] {
  const findings: Finding[] = []
  const synchronous = Number(host.pragma('synchronous', { simple: true }))
  if (synchronous < FULL) {
    findings.push({
      code: 'NOT_DURABLE',
      message: `The host's connection commits with synchronous = ${synchronous === 0 ? 'OFF' : 'NORMAL'}: a power cut can take back a sale that the cashier has seen`,
      hint: 'PRAGMA synchronous = FULL on the connection that sells.',
    })
  }
  const timeout = Number(host.pragma('busy_timeout', { simple: true }))
  if (timeout < LEAST_BUSY_TIMEOUT_MS) {
    findings.push({
      code: 'BUSY_TIMEOUT',
      message: `The host's connection waits ${timeout} ms where another one commits, and fails then`,
      hint: `PRAGMA busy_timeout = ${LEAST_BUSY_TIMEOUT_MS} or more.`,
    })
  }
  return findings
}

export function slowReplace(table: string): Finding {
  return {
    code: 'NO_INDEX',
    table,
    message: `A trigger of \`${table}\` that looks for rows which a REPLACE removes reads the whole table`,
    hint: 'SQLite does not use the unique index for it: run ANALYZE, or make the index anew.',
  }
}

export function unknownReplace(table: string, error: TillsyncError): Finding {
  return {
    code: 'NO_INDEX',
    table,
    message: `Whether a trigger of \`${table}\` that looks for rows which a REPLACE removes reads the whole table, this connection can't tell: ${error.message}`,
    hint: error.hint ?? 'The connections that sell must have what the index needs; this one may do without.',
  }
}

export function unseenReplace(table: string, index: string): Finding {
  return {
    code: 'EXPRESSION_INDEX',
    table,
    message: `A row of \`${table}\` that a REPLACE removes by the index \`${index}\`, which is over an expression, is not noticed`,
    hint: 'PRAGMA recursive_triggers = ON on the connection that sells, or a generated column with a plain index; reseal() finds what was missed.',
  }
}
