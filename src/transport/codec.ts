import { promisify } from 'node:util'
import { isUint8Array } from 'node:util/types'
import { constants, gunzip, gunzipSync, gzip, gzipSync } from 'node:zlib'
import { Packr } from 'msgpackr'
import { TillsyncError } from '../errors.ts'
import type { AudienceAnswer, Batch } from '../model.ts'
import { answerToWire } from './audience-wire.ts'
import { batchToWire } from './batch-wire.ts'
import { object } from './fields.ts'
import { checkVersion, fromWire, type Message, type OutgoingMessage, toWire } from './message.ts'

const compress = promisify(gzip)
const decompress = promisify(gunzip)

/** The first byte: what follows it. */
const FORMAT = { plain: 1, gzip: 2 } as const
/** Below this, compressing costs more than it saves. */
const COMPRESS_FROM_BYTES = 512
/** Up to here it takes less than the way to another thread and back. What 4 KB may unpack to, a thousand times as much at most, takes milliseconds. */
const AT_ONCE_BYTES = { packed: 16_384, compressed: 4_096 }

// Plain maps and strings only: no records, no extension types, nothing that the other side could make this side build. As objects maps would lose the name `__proto__`.
const packr = new Packr({ useRecords: false, variableMapSize: true, moreTypes: false, int64AsType: 'number', mapsAsObjects: false })

/** A message as bytes: a format byte, then msgpack, compressed where that pays. */
export function encodeMessage(message: OutgoingMessage): Promise<Uint8Array> {
  return pack(toWire(message), message.batch === undefined && message.published === undefined)
}

/** A batch as bytes, to be put into a message. */
export function encodeBatch(batch: Batch): Promise<Uint8Array> {
  return pack(batchToWire(batch), true)
}

/** What central has for a register, to be put into a message. */
export function encodePublished(answer: AudienceAnswer): Promise<Uint8Array> {
  return pack(answerToWire(answer), true)
}

async function pack(wire: unknown, compressible: boolean): Promise<Uint8Array> {
  const packed = packr.pack(wire)
  if (!compressible || packed.length < COMPRESS_FROM_BYTES) return formatted(FORMAT.plain, packed)
  const options = { level: constants.Z_BEST_SPEED }
  return formatted(FORMAT.gzip, packed.length <= AT_ONCE_BYTES.packed ? gzipSync(packed, options) : await compress(packed, options))
}

function formatted(format: number, body: Uint8Array): Uint8Array {
  const bytes = Buffer.allocUnsafe(body.length + 1)
  bytes[0] = format
  bytes.set(body, 1)
  return bytes
}

/**
 * A message from bytes. `maxBytes` bounds what is unpacked, so that a small body can't grow into a large one.
 *
 * @throws ERR_MESSAGE, ERR_TOO_LARGE, ERR_VERSION
 */
export async function decodeMessage(bytes: Uint8Array, maxBytes: number): Promise<Message> {
  if (!isUint8Array(bytes)) throw noBytes(bytes)
  const wire = object(unpack(await bodyOf(bytes, maxBytes)), 'message')
  checkVersion(wire)
  const { batch, published } = wire
  const [sent, news] = [await packedIn(batch, maxBytes), await Promise.allSettled([packedIn(published, maxBytes)])]
  return fromWire(wire, sent, () => {
    if (news[0].status === 'rejected') throw news[0].reason
    return news[0].value
  })
}

/** What was packed by itself. */
async function packedIn(bytes: unknown, maxBytes: number): Promise<unknown> {
  if (bytes === undefined) return undefined
  if (!(bytes instanceof Uint8Array)) throw foreign()
  return unpack(await bodyOf(bytes, maxBytes))
}

async function bodyOf(bytes: Uint8Array, maxBytes: number): Promise<Uint8Array> {
  const body = bytes.subarray(1)
  if (bytes[0] === FORMAT.plain) {
    if (body.length > maxBytes) throw tooLarge(maxBytes)
    return body
  }
  if (bytes[0] !== FORMAT.gzip) throw foreign()
  try {
    const options = { maxOutputLength: maxBytes }
    return body.length <= AT_ONCE_BYTES.compressed ? gunzipSync(body, options) : await decompress(body, options)
  } catch (error) {
    throw (error as { code?: string }).code === 'ERR_BUFFER_TOO_LARGE' ? tooLarge(maxBytes) : foreign(error)
  }
}

function unpack(packed: Uint8Array): unknown {
  try {
    return packr.unpack(packed)
  } catch (error) {
    throw foreign(error)
  }
}

/** A host's own link or mailbox may give anything. */
function noBytes(given: unknown): TillsyncError {
  return new TillsyncError('ERR_MESSAGE', `Expected a message to be a Uint8Array, got ${Object.prototype.toString.call(given).slice(8, -1)}`, {
    hint: 'What carries messages gives their bytes; of an ArrayBuffer new Uint8Array(buffer).',
  })
}

function foreign(cause?: unknown): TillsyncError {
  return new TillsyncError('ERR_MESSAGE', 'The bytes are not a tillsync message, or not a whole one', { cause })
}

function tooLarge(maxBytes: number): TillsyncError {
  return new TillsyncError('ERR_TOO_LARGE', `The message is over ${maxBytes} bytes`, {
    hint: 'Raise `maxMessageBytes` at the side that refused it.',
    context: { maxBytes },
  })
}
