import { createCipheriv, createDecipheriv, createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { turn } from '../turns.ts'

/** To central, or to the register. */
export type Direction = 'up' | 'down'

/** What a file says of itself before it is deciphered; it counts only when that has gone well. */
export interface FileHeader extends RegisterName {
  readonly direction: Direction
  /** Which key it was written with, without telling anything of it. */
  readonly keyId: string
}

export const KEY_BYTES = 32
const MAGIC = Buffer.from('tillsync\u0001', 'latin1')
const CIPHER = 'aes-256-gcm'
const NONCE_BYTES = 12
const TAG_BYTES = 16
const LENGTH_BYTES = 2
const MOST_HEADER_BYTES = 4_096
/** What a file may hold beside its message. */
export const ENVELOPE_BYTES = MAGIC.length + LENGTH_BYTES + MOST_HEADER_BYTES + NONCE_BYTES + TAG_BYTES
/** Ciphered at a time: about a millisecond. */
const SLICE_BYTES = 1_048_576

/**
 * A message as the bytes of a file, enciphered and authenticated together with whose it is, which way it goes and how the file is called, so that none can stand for another. The nonce is random:
 * a key is good for 2^32 files (NIST SP 800-38D, 8.3).
 */
export async function sealFile(
  key: Uint8Array,
  name: string,
  { location, register }: RegisterName,
  direction: Direction,
  message: Uint8Array,
): Promise<Buffer> {
  const header = Buffer.from(JSON.stringify({ location, register, direction, keyId: keyIdOf(key) }))
  const length = Buffer.alloc(LENGTH_BYTES)
  length.writeUInt16BE(header.length)
  const before = Buffer.concat([MAGIC, length, header])
  const nonce = randomBytes(NONCE_BYTES)
  const cipher = createCipheriv(CIPHER, key, nonce)
  cipher.setAAD(boundTo(before, name))
  const body = await inSlices(message, (slice) => cipher.update(slice))
  return Buffer.concat([before, nonce, ...body, cipher.final(), cipher.getAuthTag()])
}

/** @throws ERR_MESSAGE where it is no file of ours */
export function readHeader(bytes: Buffer): FileHeader {
  const { header } = split(bytes)
  let fields: Partial<Record<keyof FileHeader, unknown>>
  try {
    fields = JSON.parse(header.toString()) as typeof fields
  } catch (cause) {
    throw foreign(cause)
  }
  const { location, register, direction, keyId } = fields ?? {}
  const isName = (value: unknown): value is string => typeof value === 'string' && value !== '' && value.length <= 200
  if (!isName(location) || !isName(register) || !isName(keyId) || (direction !== 'up' && direction !== 'down')) throw foreign()
  return { location, register, direction, keyId }
}

/**
 * The message in a file, written with one of these keys.
 *
 * @throws ERR_CREDENTIAL where it was written with another key, ERR_MESSAGE where it is damaged, forged or renamed
 */
export async function openFile(keys: readonly Uint8Array[], name: string, { keyId }: FileHeader, bytes: Buffer): Promise<Uint8Array> {
  const key = keys.find((one) => isNamed(one, keyId))
  if (key === undefined)
    throw new TillsyncError('ERR_CREDENTIAL', 'The file was written with another key', { hint: 'Both sides need the same key for a register.' })
  const { before, nonce, body, tag } = split(bytes)
  const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES })
  decipher.setAAD(boundTo(before, name))
  decipher.setAuthTag(tag)
  const parts = await inSlices(body, (slice) => decipher.update(slice))
  try {
    return Buffer.concat([...parts, decipher.final()])
  } catch (cause) {
    throw new TillsyncError('ERR_MESSAGE', 'The file is damaged, or not the one that was written under this name', {
      hint: 'It is left alone; what it brought is sent again. Remove it when it is known where it comes from.',
      cause,
    })
  }
}

function keyIdOf(key: Uint8Array): string {
  return createHmac('sha256', key).update('tillsync key id').digest('base64url').slice(0, 16)
}

function isNamed(key: Uint8Array, keyId: string): boolean {
  const [theirs, ours] = [Buffer.from(keyId), Buffer.from(keyIdOf(key))]
  return theirs.length === ours.length && timingSafeEqual(theirs, ours)
}

function boundTo(before: Buffer, name: string): Buffer {
  return Buffer.concat([before, Buffer.from(name)])
}

function split(bytes: Buffer) {
  const at = MAGIC.length + LENGTH_BYTES
  if (bytes.length < at + NONCE_BYTES + TAG_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw foreign()
  const begin = at + bytes.readUInt16BE(MAGIC.length)
  if (begin - at > MOST_HEADER_BYTES || bytes.length < begin + NONCE_BYTES + TAG_BYTES) throw foreign()
  return {
    before: bytes.subarray(0, begin),
    header: bytes.subarray(at, begin),
    nonce: bytes.subarray(begin, begin + NONCE_BYTES),
    body: bytes.subarray(begin + NONCE_BYTES, bytes.length - TAG_BYTES),
    tag: bytes.subarray(bytes.length - TAG_BYTES),
  }
}

async function inSlices(bytes: Uint8Array, work: (slice: Uint8Array) => Buffer): Promise<Buffer[]> {
  const done: Buffer[] = []
  for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
    if (at > 0) await turn()
    done.push(work(bytes.subarray(at, at + SLICE_BYTES)))
  }
  return done
}

function foreign(cause?: unknown): TillsyncError {
  return new TillsyncError('ERR_MESSAGE', 'The file is none of tillsync, or not a whole one', {
    hint: 'It is left alone. Remove it when it is known where it comes from.',
    cause,
  })
}
