import t from 'tap'
import { onPostgres, SETTINGS } from '../support/differential/postgres-run.ts'
import { holdsForRandomCases } from '../support/differential/property.ts'
import { shrink } from '../support/differential/shrink.ts'
import { storyOf } from '../support/differential/steps.ts'
import { postgresCase } from '../support/hosts/postgres-case.ts'
import { startServer } from '../support/postgres.ts'
import { argument } from '../support/random.ts'

const TIMEOUT_MS = Number(argument('ms') ?? 3_000) + 180_000

t.setTimeout(TIMEOUT_MS)
const server = await startServer(t, { settings: SETTINGS })
t.test(
  'random tables and statements on PostgreSQL, collected at any moment: the statements come to what they come to without us, and the entries to what stands there',
  { timeout: TIMEOUT_MS },
  (t) => holdsForRandomCases(t, { make: postgresCase, places: [onPostgres(t, server)], shrink, storyOf }),
)
