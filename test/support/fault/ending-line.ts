import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** What PostgreSQL says to a connection that an administrator ends: ErrorResponse, see "Message Formats" in its manual. */
const FIELDS = Buffer.from('SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0')
const HEAD = Buffer.from([0x45, 0, 0, 0, FIELDS.length + 4])
const READY_BYTES = 6
const READY = 0x5a

export interface EndingLine {
  readonly port: number
  readonly ended: number
  /** Ends a connection behind this answer from now, 1 is the next. */
  endBehind(answer: number): void
}

/**
 * A line to PostgreSQL on which the server ends a connection right behind an answer, in the same packet: then it comes when `pg` has given the
 * connection away and whoever waits for it has not run yet.
 */
export async function endingLine(t: Test, target: { readonly host: string; readonly port: number }): Promise<EndingLine> {
  let answers = 0
  let ended = 0
  const open = new Set<Socket>()
  const server = createServer((near) => {
    const far = connect(target.port, target.host)
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      open.add(one)
      one.on('error', () => other.destroy())
      one.on('close', () => {
        open.delete(one)
        other.destroy()
      })
    }
    near.on('data', (bytes) => far.write(bytes))
    far.on('data', (bytes: Buffer) => {
      const isAnswer = bytes.length >= READY_BYTES && bytes[bytes.length - READY_BYTES] === READY
      if (!isAnswer || --answers !== 0) return void near.write(bytes)
      ended++
      near.end(Buffer.concat([bytes, HEAD, FIELDS]))
      far.destroy()
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    server.close()
    for (const socket of open) socket.destroy()
  })
  return {
    port: (server.address() as AddressInfo).port,
    get ended() {
      return ended
    },
    endBehind(answer) {
      answers = answer
    },
  }
}
