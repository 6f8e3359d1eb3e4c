import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { chmod, chown, cp, mkdir, rename, rm, stat, statfs, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Account, ENVIRONMENT, type Programs } from './postgres-programs.ts'

export const USER = 'postgres'
/** Known, so that a cluster that was kept can be opened again; it listens on loopback only. */
export const PASSWORD = 'tillsync'

const HOW = ['--auth=scram-sha-256', `--username=${USER}`, '--encoding=UTF8', '--locale=C', '--no-sync']
/** What a cluster that needn't outlive its test goes without: checksums of pages, and four thousand hashes for each connection. Older programs do not know how. */
const QUICKLY = ['--no-data-checksums', '--set=scram_iterations=1']
const KEPT = fileURLToPath(new URL('../../node_modules/.cache/tillsync/', import.meta.url))
const MEMORY = '/dev/shm'
const ROOM_BYTES = 4 * 1024 ** 3
const run = promisify(execFile)

/**
 * Writes a new cluster's files to `data`. `initdb` takes most of a second, so what it writes is kept below node_modules and copied
 * for the next server of that version. Says whether it was: a copy that the server doesn't start on is to be left with `forgetCluster`.
 */
export async function createCluster(data: string, programs: Programs, account: Account, durable: boolean): Promise<'copied' | 'new'> {
  const files = `${data}-new` // it gets its name when it is whole
  const how = howOf(programs, durable)
  const kept = keptCluster(programs, how)
  await rm(files, { recursive: true, force: true })
  const copied = (await exists(kept)) && (await copyKept(kept, files, account))
  if (!copied) {
    await initialize(files, programs, account, how)
    await keep(files, kept)
  }
  await rename(files, data)
  return copied ? 'copied' : 'new'
}

/** False where it can't be: it was made by an account that this one may not read. */
async function copyKept(kept: string, files: string, { uid, gid }: Account): Promise<boolean> {
  try {
    await copyCluster(kept, files)
    if (uid !== undefined) await run('chown', ['-R', `${uid}:${gid}`, files])
    return true
  } catch {
    await rm(files, { recursive: true, force: true })
    return false
  }
}

export async function forgetCluster(programs: Programs, durable: boolean): Promise<void> {
  const kept = keptCluster(programs, howOf(programs, durable))
  const away = copyOf(kept)
  await rename(kept, away).catch(() => undefined)
  await rm(away, { recursive: true, force: true }).catch(() => undefined)
}

/**
 * The folder for clusters that needn't outlive the machine: in its memory where there is room. Each database is three hundred
 * files, and what creates and removes many on a disk (ext4) waits for it more and more.
 */
export async function shortLivedFolder(): Promise<string> {
  const room = await statfs(MEMORY).then(
    ({ bavail, bsize }) => Math.min(bavail * bsize, process.availableMemory()),
    () => 0,
  )
  return room > ROOM_BYTES ? MEMORY : tmpdir()
}

async function initialize(data: string, programs: Programs, account: Account, how: readonly string[]): Promise<void> {
  const passwordFile = `${data}-password`
  await mkdir(data, { mode: 0o700 })
  await writeFile(passwordFile, PASSWORD, { mode: 0o600 })
  const { uid, gid } = account
  if (uid !== undefined && gid !== undefined) for (const path of [data, passwordFile]) await chown(path, uid, gid)
  const options = { ...account, env: ENVIRONMENT, cwd: dirname(data) }
  await run(join(programs.folder, 'initdb'), ['-D', data, `--pwfile=${passwordFile}`, ...how], options)
  await rm(passwordFile)
}

/** Several processes may do so at once: each makes a copy of its own, and that of the first gets the name. */
async function keep(data: string, kept: string): Promise<void> {
  const copy = copyOf(kept)
  try {
    await mkdir(KEPT, { recursive: true })
    await copyCluster(data, copy)
    await rename(copy, kept)
  } catch {
    await rm(copy, { recursive: true, force: true }).catch(() => undefined) // no room, not writable, or somebody was first
  }
}

async function copyCluster(from: string, to: string): Promise<void> {
  if (process.platform === 'win32') await cp(from, to, { recursive: true })
  else await run('cp', ['-R', from, to]) // in a quarter of Node's time
  await chmod(to, 0o700)
}

function howOf({ major }: Programs, durable: boolean): readonly string[] {
  return !durable && major >= 18 ? [...HOW, ...QUICKLY] : HOW
}

function keptCluster({ version }: Programs, how: readonly string[]): string {
  const hash = createHash('sha256')
    .update(JSON.stringify([how, PASSWORD]))
    .digest('hex')
  return join(KEPT, `cluster-${version.replaceAll(/[^\w.-]+/g, '-')}-${hash.slice(0, 8)}`)
}

function copyOf(kept: string): string {
  return `${kept}-${randomBytes(6).toString('hex')}`
}

export function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}
