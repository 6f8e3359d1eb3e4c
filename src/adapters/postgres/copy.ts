import { pipeline } from 'node:stream/promises'
import { setImmediate } from 'node:timers/promises'
import type { PoolClient } from 'pg'
import { from } from 'pg-copy-streams'

const SPECIAL = /[\\\t\n\r]/
const ALL_SPECIAL = /[\\\t\n\r]/g
const ESCAPES: Readonly<Record<string, string>> = { '\\': '\\\\', '\t': '\\t', '\n': '\\n', '\r': '\\r' }
/** How much text is made in one turn of the event loop and handed to the connection. */
const CHUNK = 65_536

/**
 * Inserts rows by COPY, which takes about half the time of INSERT from arrays at both ends.
 * Text format: https://www.postgresql.org/docs/current/sql-copy.html#SQL-COPY-FILE-FORMATS
 */
export async function copyRows(client: PoolClient, into: string, rows: readonly (readonly unknown[])[]): Promise<void> {
  // What has no name a tracer may send as a copy with a comment in its text, which is no stream any more.
  const copying = Object.assign(from(`COPY ${into} FROM STDIN`), { name: '' })
  await pipeline(linesOf(rows), client.query(copying))
}

async function* linesOf(rows: readonly (readonly unknown[])[]): AsyncGenerator<string> {
  let text = ''
  for (const row of rows) {
    for (let at = 0; at < row.length; at++) text += (at === 0 ? '' : '\t') + fieldOf(row[at])
    text += '\n'
    if (text.length < CHUNK) continue
    yield text
    await setImmediate()
    text = ''
  }
  if (text !== '') yield text
}

function fieldOf(value: unknown): string {
  if (typeof value === 'string') return SPECIAL.test(value) ? value.replace(ALL_SPECIAL, (char) => ESCAPES[char] as string) : value
  if (value === null || value === undefined) return '\\N'
  if (value instanceof Uint8Array) return `\\\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`
  return String(value)
}
