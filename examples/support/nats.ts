import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, constants, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { createInterface } from 'node:readline'
import { promisify } from 'node:util'

export interface NatsOptions {
  /** What stands in the server's configuration beside port and folder: accounts, limits. */
  readonly configuration?: string
  readonly port?: number
  /** A server of a cluster: its name, its port there, and the ports of all. */
  readonly cluster?: { readonly name: string; readonly port: number; readonly ports: readonly number[] }
}

/** A real NATS server with JetStream on the loopback interface, its store in a temporary folder. It ends with the process that started it, however that one ends. */
export interface Nats {
  readonly url: string
  readonly port: number
  /** Ends the server as a power cut would, and leaves its store. */
  kill(): Promise<void>
  /** Starts it again after `kill()`, on the same port and store. */
  start(): Promise<void>
  /** Another configuration, without a restart. */
  reload(configuration: string): Promise<void>
  /** Ends it and removes its store. */
  stop(): Promise<void>
}

const PATIENCE_MS = 15_000
/** Where Debian puts programs that are not on everybody's path. */
const OTHER_FOLDERS = ['/usr/sbin', '/usr/local/sbin', '/usr/local/bin']
/** The shell says the server's process id, and ends the server when nobody holds the other end of its standard input any more. */
const GUARD = '"$@" 0</dev/null & echo "pid $!"; cat >/dev/null; kill -9 $! 2>/dev/null'

/** The program nats-server; undefined where there is none. */
export async function natsProgram(): Promise<string | undefined> {
  for (const folder of [...(process.env.PATH ?? '').split(delimiter), ...OTHER_FOLDERS]) {
    const program = join(folder, 'nats-server')
    const isThere = await access(program, constants.X_OK).then(
      () => true,
      () => false,
    )
    if (isThere) return program
  }
  return undefined
}

/** @throws where there is no nats-server on this machine, or it does not start */
export async function startNats(options: NatsOptions = {}): Promise<Nats> {
  const program = await natsProgram()
  if (program === undefined) throw new Error('There is no nats-server on this machine: apt-get install nats-server, or https://nats.io/download')
  const server = new Server(program, await mkdtemp(join(tmpdir(), 'tillsync-nats-')), options.port ?? (await freePort()), options)
  try {
    await server.start()
    return server
  } catch (error) {
    await server.stop()
    throw error
  }
}

class Server implements Nats {
  readonly url: string
  readonly port: number
  private readonly program: string
  private readonly folder: string
  private readonly options: NatsOptions
  private guard: ChildProcess | undefined
  private pid: number | undefined

  constructor(program: string, folder: string, port: number, options: NatsOptions) {
    this.program = program
    this.folder = folder
    this.port = port
    this.options = options
    this.url = `nats://127.0.0.1:${port}`
  }

  async start(): Promise<void> {
    await this.configure(this.options.configuration ?? '')
    const guard = spawn('sh', ['-c', GUARD, 'sh', this.program, '-c', this.file], { stdio: ['pipe', 'pipe', 'pipe'] })
    this.guard = guard
    createInterface(guard.stdout).once('line', (line) => {
      this.pid = Number(line.split(' ')[1])
    })
    await this.says(guard, 'Server is ready')
  }

  async kill(): Promise<void> {
    const { guard } = this
    if (guard === undefined) return
    this.guard = undefined
    const ended = once(guard, 'close')
    guard.stdin?.end()
    await ended
  }

  async reload(configuration: string): Promise<void> {
    await this.configure(configuration)
    if (this.guard === undefined) return
    const reloaded = this.says(this.guard, 'Reloaded server configuration')
    await promisify(execFile)(this.program, ['--signal', `reload=${this.pid}`])
    await reloaded
  }

  async stop(): Promise<void> {
    await this.kill()
    await rm(this.folder, { recursive: true, force: true })
  }

  private get file(): string {
    return join(this.folder, 'nats.conf')
  }

  private async configure(configuration: string): Promise<void> {
    const { cluster } = this.options
    const routes = cluster?.ports.map((port) => `nats://127.0.0.1:${port}`).join(', ')
    const lines = [
      `listen: "127.0.0.1:${this.port}"`,
      `jetstream { store_dir: "${join(this.folder, 'store')}" }`,
      cluster ? `server_name: "${cluster.name}"\ncluster { name: tillsync, listen: "127.0.0.1:${cluster.port}", routes: [${routes}] }` : '',
      configuration,
    ]
    await writeFile(this.file, lines.join('\n'), { mode: 0o600 })
  }

  /** Resolves when the server says it. */
  private async says(guard: ChildProcess, text: string): Promise<void> {
    const said: string[] = []
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const fail = () => reject(new Error(`nats-server did not say '${text}':\n${said.slice(-20).join('\n')}`))
    const timer = setTimeout(fail, PATIENCE_MS)
    const hear = (chunk: Buffer) => {
      said.push(...String(chunk).split('\n'))
      if (String(chunk).includes(text)) resolve()
      if (/\[FTL\]|^nats-server:/m.test(String(chunk))) fail()
    }
    guard.stderr?.on('data', hear)
    guard.once('close', fail)
    try {
      await promise
    } finally {
      clearTimeout(timer)
      guard.off('close', fail)
      guard.stderr?.off('data', hear).resume()
    }
  }
}

/** A port that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as { port: number }
  server.close()
  await once(server, 'close')
  return port
}
