import { execFile } from 'node:child_process'
import { mkdtemp, rmdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import type { Test } from 'tap'
import type { Account } from '../../examples/support/postgres-programs.ts'

const run = promisify(execFile)

/** A disk of so many bytes, which ends with the test; undefined, with the reason printed, where this machine lets us mount none. */
export async function tinyDisk(t: Test, bytes: number, owner: Account = {}): Promise<string | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'tillsync-disk-'))
  try {
    const { uid = 0, gid = 0 } = owner
    await run('mount', ['-t', 'tmpfs', '-o', `size=${bytes},uid=${uid},gid=${gid},mode=0700`, 'tillsync-test', folder])
  } catch (error) {
    await rmdir(folder)
    t.comment(`left out: a small disk can't be mounted here (${String((error as { stderr?: string }).stderr ?? error).trim()})`)
    return undefined
  }
  t.teardown(async () => {
    await run('umount', ['-l', folder])
    await rmdir(folder)
  })
  return folder
}
