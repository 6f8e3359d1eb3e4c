import { createRegister, type Register, type RegisterStatus, TillsyncError } from '../../../src/index.ts'
import { type Condition, filterOf, publishOf, type RootRules } from '../hosts/rules.ts'
import { Break, Unfit } from './break.ts'
import { checkSealed } from './sealed.ts'
import type { Stage } from './stage.ts'
import { fits, matching, standingOf } from './standing.ts'
import type { Case, Step } from './steps.ts'
import { type Standing, Witness } from './witness.ts'

/** Plays a case on a till of its own, and throws a Break where a promise does not hold. */
export async function playOn(stage: Stage, one: Case): Promise<void> {
  const run = new CaseRun(stage, one)
  try {
    await run.play()
  } finally {
    await run.close()
  }
}

class CaseRun {
  private readonly one: Case
  private readonly stage: Stage
  private readonly witness: Witness
  private rules: readonly RootRules[] = []
  private tills: readonly Register[] = []
  private started = false
  private readonly background: Promise<unknown>[] = []
  /** Whether only one sealing lies between two looks. */
  private exact = true
  private activated = new Set<string>()
  private readonly everActivated = new Set<string>()
  private existing = new Set<string>()
  /** Roots with exports in the background. */
  private readonly exporting = new Set<string>()
  private schemaVersion: unknown

  constructor(stage: Stage, one: Case) {
    this.stage = stage
    this.one = one
    this.witness = new Witness([])
  }

  async play(): Promise<void> {
    for (let on = 0; on < this.one.connections; on++) for (const sql of this.one.pragmas) await this.stage.run(on, sql)
    for (const sql of this.one.schema) {
      const failed = await this.stage.run(0, sql)
      if (failed !== undefined && sql.startsWith('CREATE TABLE')) throw new Unfit(failed)
    }
    if ((await this.unfit(this.one.rules)).length > 0) throw new Unfit('the rules do not fit')
    await this.restart(this.one.rules, false)
    this.stage.afterLibrary()
    for (const step of this.one.steps) {
      await this.step(step)
      if (step.do !== 'sql' || this.started) this.stage.afterLibrary()
      await this.noteSchema()
    }
    if (this.tills.length === 0) await this.restart(this.rules, false)
    await this.look()
    await this.stage.compare()
  }

  async close(): Promise<void> {
    await this.stage.abandon()
    await Promise.allSettled(this.background)
    await Promise.allSettled(this.tills.map((till) => till.stop()))
    await this.stage.close()
  }

  private get till(): Register {
    return this.tills[0] as Register
  }

  private async step(step: Step): Promise<void> {
    switch (step.do) {
      case 'sql':
        return this.sql(step.on, step.sql)
      case 'turn':
        return this.stage.turn(this.background)
      case 'migrate':
        return this.migrate(step.sql)
      case 'seal':
        return this.isQuiet ? this.look() : this.launch(() => this.till.seal())
      case 'export':
        return this.export(step.table, step.which)
      case 'reseal':
        return this.reseal(step.table)
      case 'stop':
        return this.stop()
      case 'restart':
        return this.restart(step.rules, step.start)
    }
  }

  private async sql(on: number, sql: string): Promise<void> {
    // A transaction that a savepoint begins is DEFERRED; see SqliteHabits.
    if (sql.startsWith('SAVEPOINT') && !this.stage.isInTransaction(on)) return
    // A touch names columns: what stood there and is not looked at yet would be forgotten, and sent.
    if (this.existing.size > 0 && sql.includes('RENAME COLUMN')) await this.look()
    await this.stage.run(on, sql)
  }

  /** Nothing of the host's is open, so that nothing makes the library wait. */
  private get isQuiet(): boolean {
    return this.stage.isBetweenTransactions
  }

  /** What goes on while the host goes on; it has not seen what stood there at first. */
  private async launch(work: () => Promise<unknown>): Promise<void> {
    if (this.tills.length === 0 || this.existing.size > 0) return
    this.exact = false
    const done = work().catch((error) => {
      if (!(error instanceof TillsyncError) || !OF_RULES.includes(error.code)) throw error
    })
    done.catch(() => undefined)
    this.background.push(done)
    await this.stage.turn([])
  }

  private async settled(): Promise<void> {
    await this.stage.settle()
    await this.noteSchema()
    await Promise.all(this.background.splice(0))
  }

  /** Seals everything and looks whether it is what stands in the tables. */
  private async look(exported: ReadonlySet<string> = new Set()): Promise<void> {
    if (this.tills.length === 0) return
    const wasBusy = this.background.length > 0
    for (const name of exported) this.exporting.add(name.slice(0, name.indexOf('\n')))
    await this.settled()
    if (wasBusy) this.exact = false
    await Promise.all(this.tills.map((till) => till.seal()))
    await this.read()
    if (this.existing.size > 0) this.witness.withhold(await this.standing(), this.existing)
    const { unsealed, parked, problems } = await this.resealed()
    await this.read()
    this.exporting.clear()
    const { exact, activated, existing } = this
    this.witness.compare(await this.standing(), { exact: exact && !this.started, activated, existing, exported })
    if (unsealed > 0 || parked.length > 0) throw new Break('rest', `unsealed: ${unsealed}, parked: ${JSON.stringify(parked)}`)
    const unfit = (await this.unfit(this.rules)).map(({ table }) => table)
    const named = problems.map(({ table }) => table)
    if (named.sort().join() !== unfit.sort().join()) throw new Break('problems', `named: ${named}, there are: ${unfit}`)
    for (const { table } of this.rules) if (!named.includes(table)) await checkSealed(this.till, await this.stage.entries(0), table)
    this.exact = true
    this.activated = new Set()
    this.existing = new Set()
    this.stage.afterLibrary()
  }

  private async resealed(): Promise<RegisterStatus> {
    for (let rounds = 0; rounds < 5; rounds++) {
      const status = await this.till.status()
      const { resealing, problems } = status
      const due = resealing.filter((table) => !problems.some((problem) => problem.table === table))
      const other = due.find((table) => !this.rules.some((rule) => rule.table === table))
      if (other !== undefined) throw new Break('reseal', `of ${other}, which is in no rule any more`)
      // One that seals by itself may have touched the last records of a reseal and not have sealed them.
      const touching = this.started && status.unsealed > 0 && rounds < 4
      if (due.length === 0 && !touching) return status
      if (touching) await this.till.seal()
      for (const table of due) await this.till.reseal(table)
    }
    throw new Break('reseal', 'a reseal does not come to an end')
  }

  private async read(): Promise<void> {
    this.witness.read(await this.stage.entries(this.witness.head), this.exporting)
  }

  private standing(): Promise<Standing> {
    return standingOf(this.stage.twin, this.rules)
  }

  private async unfit(rules: readonly RootRules[]): Promise<RootRules[]> {
    const unfit: RootRules[] = []
    for (const root of rules) if (!(await fits(this.stage.twin, root))) unfit.push(root)
    return unfit
  }

  private async export(table: string, which: Condition | undefined): Promise<void> {
    const root = this.rules.find((rule) => rule.table === table)
    if (root === undefined) return
    const filter = which === undefined ? (eb: { lit(value: boolean): unknown }) => eb.lit(true) : filterOf(table, which)
    const run = () => this.till.export(table, filter as never)
    if (!this.isQuiet) {
      this.exporting.add(table)
      return this.launch(run)
    }
    await this.look()
    if (this.tills.length === 0 || (await this.unfit([root, ...(which === undefined ? [] : [{ ...root, existing: which }])])).length > 0) return
    const standing = await this.standing()
    const meant = [...(await matching(this.stage.twin, root, which))].filter((name) => standing.docs.has(name))
    const { documents } = await run()
    if (documents !== meant.length) throw new Break('export', `${documents} documents were exported of ${meant.length}`)
    await this.look(new Set(meant))
  }

  private async reseal(table: string): Promise<void> {
    const root = this.rules.find((rule) => rule.table === table)
    if (root === undefined) return
    if (!this.isQuiet) return this.launch(() => this.till.reseal(table))
    await this.look()
    if (this.tills.length === 0 || !(await fits(this.stage.twin, root))) return
    const { documents } = await this.till.reseal(table)
    if (documents > 0) throw new Break('reseal', `a reseal of ${table} found ${documents} documents after all was sealed`)
  }

  private async migrate(statements: readonly string[]): Promise<void> {
    await this.settled()
    const run = async () => {
      this.stage.afterLibrary()
      for (const sql of statements) await this.stage.run(0, sql)
    }
    if (this.tills.length === 0) await this.restart(this.rules, false)
    this.exact = false // it reseals
    await this.till.migrate(run)
    // What stood there at first is withheld as it was then.
    if (this.existing.size > 0) await this.look()
  }

  private async stop(): Promise<void> {
    await this.settled()
    await Promise.all(this.tills.map((till) => till.stop()))
    if (this.tills.length > 0) await this.read()
    this.exporting.clear()
    if (this.tills.length > 0 && this.started) this.exact = false
    this.tills = []
    this.started = false
  }

  private async restart(rules: readonly RootRules[], start: boolean): Promise<void> {
    await this.look()
    await this.stop()
    const before = new Set(this.rules.map(({ table }) => table))
    const unfit = await this.unfit(rules)
    const kept = rules.filter((root) => before.has(root.table) || !unfit.includes(root))
    this.rules = kept.length > 0 ? kept : this.rules
    this.witness.follow(this.rules)
    this.schemaVersion = undefined
    await this.noteSchema()
    await this.activate(this.rules.filter(({ table }) => !before.has(table)))
    const create = () => createRegister({ location: 'BA01', register: 'POS1', database: this.stage.database(), publish: publishOf(this.rules) })
    this.tills = this.one.twoCollectors ? [create(), create()] : [create()]
    const installed = await Promise.all(this.tills.map((till) => this.install(till)))
    // What stands there is withheld as it is when it is first looked at; where install() refuses, that is when a table begins to be published.
    if (this.existing.size > 0 && (start || !installed.every(Boolean))) await this.look()
    this.started = start
    if (start) await this.till.start()
  }

  private async activate(roots: readonly RootRules[]): Promise<void> {
    const { twin } = this.stage
    for (const root of roots) {
      if (this.everActivated.has(root.table)) this.exact = false
      else this.activated.add(root.table)
      this.everActivated.add(root.table)
      if (root.existing === 'all') continue
      const sent = root.existing === 'none' ? new Set() : await matching(twin, root, root.existing)
      for (const name of await matching(twin, root, undefined)) if (!sent.has(name)) this.existing.add(name)
    }
  }

  private async install(till: Register): Promise<boolean> {
    const fitting = (await this.unfit(this.rules)).length === 0
    try {
      await till.install()
    } catch (error) {
      if (fitting || !(error instanceof TillsyncError) || !OF_RULES.includes(error.code)) throw error
      return false
    }
    if (!fitting) throw new Break('install', 'install() took rules that do not fit the tables')
    return true
  }

  /** Initial values are remembered as of each schema that there was. */
  private async noteSchema(): Promise<void> {
    const { schemaVersion } = this.stage
    if (schemaVersion === this.schemaVersion) return
    this.schemaVersion = schemaVersion
    this.witness.noteInitials((await this.standing()).initials)
  }
}

const OF_RULES = ['ERR_UNKNOWN_TABLE', 'ERR_UNKNOWN_COLUMN', 'ERR_RULE', 'ERR_NO_KEY', 'ERR_FILTER']
