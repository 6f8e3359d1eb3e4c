import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { playOn } from './run.ts'
import { SqliteStage } from './sqlite-stage.ts'
import type { Case } from './steps.ts'

/** Plays a case in files of its own. */
export async function runOnSqlite(one: Case): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'tillsync-diff-'))
  try {
    await playOn(new SqliteStage(one, [join(folder, 'till.sqlite'), join(folder, 'twin.sqlite')]), one)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
