import t from 'tap'
import { holdsForRandomCases } from '../support/differential/property.ts'
import { shrink } from '../support/differential/shrink.ts'
import { runOnSqlite } from '../support/differential/sqlite-run.ts'
import { storyOf } from '../support/differential/steps.ts'
import { sqliteCase } from '../support/hosts/sqlite-case.ts'
import { argument } from '../support/random.ts'

const TIMEOUT_MS = Number(argument('ms') ?? 3_000) + 120_000

t.setTimeout(TIMEOUT_MS)
t.test(
  'random tables and statements on SQLite, collected at any moment: the statements come to what they come to without us, and the entries to what stands there',
  { timeout: TIMEOUT_MS },
  (t) => holdsForRandomCases(t, { make: sqliteCase, places: [runOnSqlite], shrink, storyOf }),
)
