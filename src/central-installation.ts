import { COMPARISON_ANSWERS, COMPARISONS } from './apply/compare-tables.ts'
import type { Subscribed } from './apply/handling.ts'
import { createOrCheck, tablesOf } from './apply/subscription.ts'
import { ARCHIVE, CREDENTIALS, DOCUMENTS, EPOCHS, FRAMES, LIVES, ORPHANS, POINTS, QUARANTINE, REGISTERS, SHAPES } from './apply/tables.ts'
import { AUDIENCES } from './capture/audience-tables.ts'
import { come, NOTHING, putInForce } from './capture/rules-in-force.ts'
import { type CentralPublishing, capturing, PUBLISHING_MIGRATION, PUBLISHING_TABLES } from './central-publishing.ts'
import { checkMigrated, hasOwnTable, type Migrations, migrate } from './migrate.ts'
import type { ApplyingDatabase, Clock } from './ports.ts'
import { PULLS } from './transport/tables.ts'

const CENTRAL_TABLES = [
  REGISTERS,
  CREDENTIALS,
  EPOCHS,
  POINTS,
  SHAPES,
  FRAMES,
  ARCHIVE,
  DOCUMENTS,
  LIVES,
  ORPHANS,
  QUARANTINE,
  COMPARISONS,
  COMPARISON_ANSWERS,
]
const MIGRATIONS: readonly Migrations[] = [
  { component: 'apply', steps: [{ create: CENTRAL_TABLES }] },
  { component: 'pull', steps: [{ create: [PULLS] }] },
]
const OWN_TABLES = [...CENTRAL_TABLES, PULLS, ...PUBLISHING_TABLES].map((table) => table.name)
/** What was posted stays where the library goes. */
const LEDGERS = ['stock_movements', 'stock_levels', 'posted_plu_closings', 'posted_plu_closing_lines']

interface CentralInstallationOptions {
  readonly database: ApplyingDatabase
  readonly clock: Clock
  readonly subscribed: Subscribed
  readonly publishing: CentralPublishing | undefined
}

/** What head office has in its database: tables of its own, those of its handlers, and triggers where it publishes. */
export class CentralInstallation {
  private readonly database: ApplyingDatabase
  private readonly clock: Clock
  private readonly subscribed: Subscribed
  private readonly publishing: CentralPublishing | undefined
  private readonly migrations: readonly Migrations[]

  constructor({ database, clock, subscribed, publishing }: CentralInstallationOptions) {
    this.database = database
    this.clock = clock
    this.subscribed = subscribed
    this.publishing = publishing
    this.migrations = publishing ? [...MIGRATIONS, PUBLISHING_MIGRATION] : MIGRATIONS
  }

  /** In one transaction. */
  async install(): Promise<void> {
    const { database, publishing, migrations } = this
    const { checks, handlers } = this.subscribed
    await database.open()
    const coming = await (publishing ? publishing.sealer.planning.willInstall() : come(database, this.clock))
    await database.write(function* () {
      yield* database.requireUnicode()
      if (publishing) yield* publishing.sealer.planning.prepare()
      yield* migrate(database, migrations)
      for (const [table, all] of checks) for (const check of all) if (typeof check !== 'function') yield* check.check(database, table)
      for (const [table, all] of handlers) for (const handler of all) yield* handler.check(database, table)
      yield* createOrCheck(database, [...tablesOf(handlers)])
      if (publishing) yield* publishing.install(coming)
      // Rules that publish nothing any more: nobody would take what triggers note. What was noted stays, for a process that publishes may still run: it stands still by the rules.
      else if (yield* hasOwnTable(database, AUDIENCES)) {
        yield* putInForce(database, NOTHING, coming)
        yield* capturing(database).capture.removeTriggers()
      }
    })
    publishing?.sealer.planning.installed()
  }

  /** In one transaction, the ledgers apart. Closes the database. */
  async uninstall(): Promise<void> {
    const { database } = this
    const { handlers } = this.subscribed
    await database.open()
    await database.write(function* () {
      yield* database.lockInstall()
      yield* capturing(database).capture.uninstall()
      const own = [...tablesOf(handlers)].map((table) => table.name).filter((name) => !LEDGERS.includes(name))
      for (const name of [...own, ...OWN_TABLES, 'sync_state']) yield* database.dropTable(name)
    })
    await database.close()
  }

  /** @throws ERR_NOT_INSTALLED */
  async open(): Promise<void> {
    await this.database.open()
    await this.database.read(() => checkMigrated(this.database, this.migrations))
  }
}
