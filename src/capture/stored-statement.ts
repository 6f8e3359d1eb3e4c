import type { Statement } from '../work.ts'

/** Parameters as JSON text that reads back as the same; undefined where one of them is no value. */
export function storedParameters(parameters: readonly unknown[]): string | undefined {
  const stored = parameters.map(toStored)
  return stored.includes(undefined) ? undefined : JSON.stringify(stored)
}

/** What JSON can't say is an object with one member. */
function toStored(value: unknown): unknown {
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  if (typeof value === 'number') return Number.isFinite(value) ? value : { number: String(value) }
  if (typeof value === 'bigint') return { bigint: String(value) }
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? undefined : { date: value.toISOString() }
  if (value instanceof Uint8Array) return { bytes: Buffer.from(value).toString('base64') }
  if (!Array.isArray(value)) return undefined
  const all = value.map(toStored)
  return all.includes(undefined) ? undefined : all
}

function fromStored(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(fromStored)
  if (typeof value !== 'object' || value === null) return value
  const { number, bigint, date, bytes } = value as Readonly<Record<string, string | undefined>>
  if (number !== undefined) return Number(number)
  if (bigint !== undefined) return BigInt(bigint)
  if (date !== undefined) return new Date(date)
  return Buffer.from(bytes ?? '', 'base64')
}

/** A statement from the text of a JSON array of its SQL and its parameters. */
export function storedStatement(text: string): Statement {
  const [sql, parameters] = JSON.parse(text) as [string, unknown[]]
  return { sql, parameters: parameters.map(fromStored) }
}
