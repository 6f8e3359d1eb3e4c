/**
 * Values to the bit, as texts that can be compared; and records as a stranger reads them, by what src/record.ts promises and
 * without the library's own codec.
 */

/** A value of a record. `text`: of numbers the very digits, of text the text, of a blob its bytes in hexadecimal. */
export interface Read {
  readonly kind: 'null' | 'boolean' | 'integer' | 'real' | 'text' | 'blob'
  readonly text: string
  /** Text that is no UTF-8 by its bytes, in hexadecimal. */
  readonly bytes?: string
}

type Reviver = (key: string, value: unknown, context: { readonly source?: string }) => unknown

export function readRecord(json: string): Readonly<Record<string, Read>> {
  return JSON.parse(json, revive as (key: string, value: unknown) => unknown) as Record<string, Read>
}

export function readRecordId(json: string): readonly Read[] {
  return JSON.parse(json, revive as (key: string, value: unknown) => unknown) as Read[]
}

const revive: Reviver = (key, value, { source = '' }) => {
  if (value === null) return { kind: 'null', text: '' }
  if (typeof value === 'boolean') return { kind: 'boolean', text: String(value) }
  if (typeof value === 'number') return { kind: /^-?\d+$/.test(source) ? 'integer' : 'real', text: source }
  if (typeof value === 'string') return { kind: 'text', text: value }
  return key === '' || Array.isArray(value) ? value : tagged(value as Record<string, Read>)
}

function tagged(value: Readonly<Record<string, Read>>): Read {
  const [[tag, content] = ['', undefined], ...others] = Object.entries(value)
  if (others.length > 0 || content?.kind !== 'text') throw new Error(`No value: ${JSON.stringify(value)}`)
  if (tag === '$real') return { kind: 'real', text: content.text }
  const bytes = Buffer.from(content.text, 'base64').toString('hex')
  if (tag === '$blob') return { kind: 'blob', text: bytes }
  if (tag === '$text') return { kind: 'text', text: Buffer.from(content.text, 'base64').toString(), bytes }
  throw new Error(`No tag: ${tag}`)
}

/** What an SQLite database would say of it: `typeof` and the bits. */
export function exact({ kind, text, bytes }: Read): string {
  if (kind === 'real') return `real ${bitsOf(Number(text))}`
  if (kind === 'text') return `text ${bytes ?? Buffer.from(text).toString('hex')}`
  return `${kind} ${text}`
}

/** What PostgreSQL reads it from. */
export function literal({ kind, text }: Read): string | null {
  return kind === 'null' ? null : kind === 'blob' ? `\\x${text}` : text
}

export function bitsOf(value: number): string {
  const bits = Buffer.alloc(8)
  bits.writeDoubleBE(value)
  return bits.toString('hex')
}

/** A value as a handler or the host gets it: its type in JavaScript and all of it. */
export function shown(value: unknown): string {
  if (value instanceof Uint8Array) return `bytes ${Buffer.from(value).toString('hex')}`
  if (typeof value === 'number') return `number ${bitsOf(value)}`
  if (typeof value === 'string') return `string ${Buffer.from(value, 'utf16le').toString('hex')}`
  return `${value === null ? 'null' : typeof value} ${value}`
}

/** What `shown` must say of it: whole numbers are bigint beyond 2^53. */
export function shownAs({ kind, text }: Read): string {
  if (kind === 'null') return shown(null)
  if (kind === 'boolean') return shown(text === 'true')
  if (kind === 'real') return shown(Number(text))
  if (kind === 'integer') return shown(Number.isSafeInteger(Number(text)) ? Number(text) : BigInt(text))
  return shown(kind === 'blob' ? Buffer.from(text, 'hex') : text)
}

/** All columns in one text. */
export function row<T>(columns: Readonly<Record<string, T>>, show: (value: T) => string): string {
  return Object.entries(columns)
    .map(([name, value]) => `${name}: ${show(value)}`)
    .sort()
    .join(' | ')
}
