import { asTillsyncError, TillsyncError } from '../errors.ts'

/**
 * Reads a body as far as it may go: what comes beyond is not waited for.
 *
 * @throws ERR_TOO_LARGE, ERR_MESSAGE where it does not arrive whole
 */
export async function readBody(body: AsyncIterable<Uint8Array> | null, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let length = 0
  try {
    for await (const chunk of body ?? []) {
      length += chunk.length
      refuseLength(length, maxBytes)
      chunks.push(chunk)
    }
  } catch (error) {
    throw asTillsyncError(error, 'ERR_MESSAGE', 'The body did not arrive whole')
  }
  return joined(chunks, length)
}

/** In memory of its own: a small Buffer is a slice of 8 KB that it shares, all of which lives for as long as an answer to it is held back. */
function joined(chunks: readonly Uint8Array[], length: number): Uint8Array {
  const body = new Uint8Array(length)
  let at = 0
  for (const chunk of chunks) {
    body.set(chunk, at)
    at += chunk.length
  }
  return body
}

/** @throws ERR_TOO_LARGE */
export function refuseLength(length: number, maxBytes: number): void {
  if (length > maxBytes) throw new TillsyncError('ERR_TOO_LARGE', `The message is over ${maxBytes} bytes`, { context: { maxBytes } })
}
