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
  return Buffer.concat(chunks)
}

/** @throws ERR_TOO_LARGE */
export function refuseLength(length: number, maxBytes: number): void {
  if (length > maxBytes) throw new TillsyncError('ERR_TOO_LARGE', `The message is over ${maxBytes} bytes`, { context: { maxBytes } })
}
