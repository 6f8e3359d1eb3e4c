import { join } from 'node:path'
import t from 'tap'
import { missing } from '../support/postgres.ts'
import { seedOfRun } from '../support/random.ts'

const seed = seedOfRun()
t.comment(`--seed=${seed}`)

/** What a register on the oldest server must do as on the newest: the very same tests, those that take longest left out. */
const FILES = [
  ['integration/postgres-capture.test.ts'],
  ['integration/postgres-sessions.test.ts'],
  ['property/postgres-statements.test.ts', `--seed=${seed}`, '--transactions=30'],
] as const

const reason = await missing(14)
if (reason === undefined)
  for (const [file, ...options] of FILES)
    t.spawn(process.execPath, [join(import.meta.dirname, '..', file), '--postgres=14', ...options], { name: `PostgreSQL 14: ${file}` })
else t.pass(`left out: ${reason}`)
