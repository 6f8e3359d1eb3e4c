import { TillsyncError } from '../errors.ts'
import type { Point } from '../model.ts'

// What a message consists of, read from what came over the wire: each throws ERR_MESSAGE with the name of the field.

const DIGEST_BYTES = 32

export function pointToWire({ entryNo, digest }: Point): readonly [number, Uint8Array] {
  return [entryNo, Buffer.from(digest, 'hex')]
}

export function point(wire: unknown, field: string): Point {
  const [entryNo, at] = tuple(wire, field, 2)
  return { entryNo: count(entryNo, field), digest: digest(at, field) }
}

/** A map by its names, whatever they are: an own member for each. */
export function object(value: unknown, field: string): Record<string, unknown> {
  if (value instanceof Map) return Object.fromEntries(value)
  if (typeof value !== 'object' || value === null || Array.isArray(value) || ArrayBuffer.isView(value)) throw malformed(field)
  return value as Record<string, unknown>
}

export function list(value: unknown, field: string): readonly unknown[] {
  if (!Array.isArray(value)) throw malformed(field)
  return value
}

export function tuple(value: unknown, field: string, length: number): readonly unknown[] {
  const items = list(value, field)
  if (items.length !== length) throw malformed(field)
  return items
}

export function text(value: unknown, field: string, max: number): string {
  if (typeof value !== 'string' || value.length === 0 || value.length > max) throw malformed(field)
  return value
}

/** Text that a database takes. */
export function stored(value: unknown, field: string, max: number): string {
  const found = text(value, field, max)
  if (found.includes('\0')) throw malformed(field)
  return found
}

export function count(value: unknown, field: string): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw malformed(field)
  return value
}

export function digest(value: unknown, field: string): string {
  if (!(value instanceof Uint8Array) || value.length !== DIGEST_BYTES) throw malformed(field)
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')
}

export function malformed(field: string): TillsyncError {
  return new TillsyncError('ERR_MESSAGE', `The message's \`${field}\` is not as the protocol has it`, { context: { field } })
}
