import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import type { Test } from 'tap'

/** What goes wrong on a line, once so many bytes have gone that way. */
export interface Fault {
  readonly way: 'request' | 'answer'
  readonly afterBytes: number
  /** 'cut': both ends hear of it. 'silence': nobody does, and nothing arrives any more, either way. */
  readonly how: 'cut' | 'silence'
  /** Whether only the next connection meets it. Default: each. */
  readonly once?: boolean
}

/** A line between a till and central, byte by byte. */
export class Line {
  readonly url: string
  /** How often the fault was met. */
  met = 0
  private fault: Fault | undefined
  private readonly sockets = new Set<Socket>()

  private constructor(url: string) {
    this.url = url
  }

  static async open(t: Test, to: string): Promise<Line> {
    const target = new URL(to)
    const server = createServer({ allowHalfOpen: true }, (near) => line.join(near, connect({ port: Number(target.port), host: target.hostname })))
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const line = new Line(`http://127.0.0.1:${(server.address() as AddressInfo).port}${target.pathname}`)
    t.teardown(() => {
      server.close()
      line.cutAll()
    })
    return line
  }

  /** From now on; what is connected is cut first, so that the next bytes are the first of their connection. */
  break(fault: Fault): void {
    this.mend()
    this.fault = fault
  }

  /** All is well. What hangs is cut: the far end of a line that is silent learns of nothing. */
  mend(): void {
    this.fault = undefined
    this.cutAll()
  }

  private cutAll(): void {
    for (const socket of this.sockets) socket.destroy()
  }

  private join(near: Socket, far: Socket): void {
    let isSilent = false
    const end = (how: Fault['how']): void => {
      this.met++
      if (this.fault?.once) this.fault = undefined
      isSilent = how === 'silence'
      if (how === 'cut') for (const socket of [near, far]) socket.resetAndDestroy()
    }
    const pass = (from: Socket, to: Socket, way: Fault['way']): void => {
      let passed = 0
      this.sockets.add(from)
      from.on('close', () => {
        this.sockets.delete(from)
        if (!isSilent) to.destroy()
      })
      from.on('error', () => undefined)
      from.on('data', (bytes: Buffer) => {
        if (isSilent) return
        const { fault } = this
        const left = fault?.way === way ? fault.afterBytes - passed : Number.POSITIVE_INFINITY
        passed += bytes.length
        if (bytes.length < left || fault === undefined) to.write(bytes)
        else if (left <= 0) end(fault.how)
        else to.write(bytes.subarray(0, left), () => end(fault.how))
      })
      from.on('end', () => {
        if (!isSilent) to.end()
      })
    }
    pass(near, far, 'request')
    pass(far, near, 'answer')
  }
}
