import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'

/** The line between the shop and head office: a TCP proxy that can be cut. */
export class Line {
  private readonly server: Server
  private readonly sockets = new Set<Socket>()
  private up = true

  constructor(to: number) {
    this.server = createServer((near) => {
      if (!this.up) return void near.destroy()
      const far = connect(to, '127.0.0.1')
      this.join(near, far)
      this.join(far, near)
    })
  }

  async open(): Promise<number> {
    this.server.listen(0, '127.0.0.1')
    await once(this.server, 'listening')
    return (this.server.address() as AddressInfo).port
  }

  /** Breaks every connection in the middle of whatever it carries, and refuses new ones. */
  cut(): void {
    this.up = false
    // Not resetAndDestroy(): it now and then leaves a half-closed socket behind, which spins and keeps the process alive.
    for (const socket of this.sockets) socket.destroy()
  }

  mend(): void {
    this.up = true
  }

  close(): void {
    this.cut()
    this.server.close()
  }

  private join(from: Socket, to: Socket): void {
    this.sockets.add(from)
    from.pipe(to)
    from.on('error', () => to.destroy())
    from.on('close', () => {
      this.sockets.delete(from)
      to.destroy()
    })
  }
}
