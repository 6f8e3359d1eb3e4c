import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Central } from '../central-face.ts'
import type { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { CentralDatabase, CentralMailbox, Mailbox } from '../ports.ts'
import { createToken } from '../transport/credentials.ts'
import { codeOf } from './clause.ts'
import { checkBooks } from './contract-books.ts'
import { contractCentral, createContractTables } from './contract-central.ts'
import { ContractTill, RECORDS_PER_RUN } from './contract-till.ts'
import { MailCarrier } from './mail-carrier.ts'
import type { CheckedMailboxOptions, ContractMailboxes } from './mailbox-options.ts'
import { within } from './patience.ts'

/** A till of a scene, with what stands before its mailbox. */
export interface MailTill {
  readonly till: ContractTill
  readonly carrier: MailCarrier
  /** The mailbox under test, without the carrier. */
  readonly mailbox: Mailbox
}

/** Runs that a till needs at most, once nothing stands in its way. */
const MOST_RUNS = 20
/** How long a run waits for answers, some of which never come. */
const ANSWER_MS = 600
/** The longest pause before letters are sent again: on a machine that is busy answers take longer than the shortest. */
const RESEND_MOST_MS = 3_000

/** A head office and its tills, for one test: the mailboxes under test are all that lies between them. */
export class MailboxScene {
  readonly options: CheckedMailboxOptions
  /** Another one in each scene, so that one database does for all. */
  readonly location = `contract-${createToken().slice(0, 8)}`
  readonly database: CentralDatabase
  central!: Central
  private mailboxes!: ContractMailboxes
  private readonly folder = mkdtempSync(join(tmpdir(), 'tillsync-contract-'))
  private readonly closing: (() => Promise<unknown> | unknown)[] = []

  private constructor(options: CheckedMailboxOptions) {
    this.options = options
    this.database = options.database()
  }

  /** Runs a test in a scene of its own, and takes it down whatever comes. */
  static async play(options: CheckedMailboxOptions, act: (scene: MailboxScene) => Promise<void>): Promise<void> {
    const scene = new MailboxScene(options)
    try {
      await scene.open()
      await act(scene)
    } catch (error) {
      // What is broken keeps others from ending too; it is the first that counts.
      await scene.close().catch(() => undefined)
      throw error
    }
    await scene.close()
  }

  /** Central's mailbox by itself, with no central behind it. */
  async centralMailbox(): Promise<CentralMailbox> {
    const mailbox = await this.mailboxes.central()
    this.closing.push(() => mailbox.close?.())
    return mailbox
  }

  async mailboxOf(register: string): Promise<Mailbox> {
    const mailbox = await this.mailboxes.register({ location: this.location, register })
    this.closing.push(() => mailbox.close?.())
    return mailbox
  }

  /** Another central on the same database, as another process would be; it is not started. */
  async another(): Promise<Central> {
    const central = contractCentral(this.options.database(), this.location, { mailboxes: [await this.mailboxes.central()] })
    this.closing.push(() => central.stop())
    return central
  }

  async addTill(register = 'POS1'): Promise<MailTill> {
    const name: RegisterName = { location: this.location, register }
    await this.central.registers.add(name)
    const carrier = new MailCarrier()
    const mailbox = await this.mailboxOf(register)
    const till = new ContractTill({
      name,
      file: join(this.folder, `${register}.sqlite`),
      token: '',
      isPulled: false,
      tillDatabase: this.options.tillDatabase,
      transfer: () => ({
        type: 'push',
        mailbox: carrier.around(() => mailbox),
        recordsPerRun: RECORDS_PER_RUN,
        everyMs: 50,
        answerMs: ANSWER_MS,
        backoff: { minMs: 5, maxMs: 50 },
        resend: { minMs: ANSWER_MS / 3, maxMs: RESEND_MOST_MS },
      }),
    })
    this.closing.push(() => till.close())
    await till.open()
    return { till, carrier, mailbox }
  }

  /** One run, however it ends: what it is ended by has a code, and changes nothing but what is there already. */
  tryToSynchronize({ till }: MailTill): Promise<TillsyncError | undefined> {
    return within(this.options.withinMs, 'a synchronization, however it ends', codeOf(till.register.synchronize()))
  }

  /** Nothing stands in its way any more: it comes to an end, and the books are right. */
  async calm(of: MailTill, after: string): Promise<void> {
    of.carrier.fates.up = []
    of.carrier.fates.down = []
    let last: TillsyncError | undefined
    for (let run = 0; run < MOST_RUNS; run++) {
      last = await this.tryToSynchronize(of)
      const { pending, unsealed } = await of.till.register.status()
      if (last === undefined && pending === 0 && unsealed === 0) return checkBooks(this, of.till, after)
    }
    throw new assert.AssertionError({ message: `${after}: it does not come to an end in ${MOST_RUNS} runs: ${last?.message}` })
  }

  private async open(): Promise<void> {
    this.mailboxes = await this.options.open(this.location)
    await createContractTables(this.database)
    this.central = contractCentral(this.database, this.location, { mailboxes: [await this.mailboxes.central()] })
    await this.central.install()
  }

  private async close(): Promise<void> {
    const all = [...this.closing.reverse(), () => this.central.stop()]
    const patienceMs = 2 * this.options.withinMs
    const ends = await Promise.allSettled(all.map(async (close) => within(patienceMs, 'the end of what a test has opened', Promise.resolve(close()))))
    await this.mailboxes.close?.()
    rmSync(this.folder, { recursive: true, force: true })
    const failed = ends.find((end) => end.status === 'rejected')
    if (failed) throw failed.reason
  }
}
