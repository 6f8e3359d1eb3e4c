import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { known, unlessGiven, whole } from '../options.ts'
import type { CapturingDatabase, CentralDatabase, CentralMailbox, Mailbox } from '../ports.ts'
import type { ContractTest } from './link-options.ts'

/** The mailboxes of one head office and its registers, with nothing in them. */
export interface ContractMailboxes {
  /** Central's; asked for each central of a test, for two of them receive from the same. */
  central(): CentralMailbox | Promise<CentralMailbox>
  /** A register's; asked again where it is as after a restart. */
  register(name: RegisterName): Mailbox | Promise<Mailbox>
  /** Closes what was opened for them. */
  close?(): Promise<void> | void
}

export interface MailboxContractOptions {
  /**
   * Head office's database, as `postgres(pool)` gives it; asked for each central of the suite. One of its own: the suite makes its tables in it
   * (`receipts`, `receipt_lines` and the library's). The host ends the pool, and drops the database, after the last test.
   */
  readonly database: () => CentralDatabase
  /** An SQLite till in this file, which the suite removes in the end; in WAL mode: `sqlite(() => openWal(file))`. */
  readonly tillDatabase: (file: string) => CapturingDatabase
  /** Opens mailboxes for one test. The registers are those of `location`. */
  readonly open: (location: string) => ContractMailboxes | Promise<ContractMailboxes>
  /** How long what should go well may take, in milliseconds. Default 15,000; from 1,000 up. */
  readonly withinMs?: number
  /** What the dice say. Default: at random; a failure names it. */
  readonly seed?: number
}

export type CheckedMailboxOptions = MailboxContractOptions & { readonly withinMs: number; readonly seed: number }

/** @throws ERR_OPTION */
export function checkMailboxOptions(test: ContractTest, options: MailboxContractOptions): CheckedMailboxOptions {
  if (typeof test !== 'function') throw misused('the test function of the host', test)
  if (typeof options !== 'object' || options === null) throw misused('options', options)
  known('mailboxContract', options, ['database', 'tillDatabase', 'open', 'withinMs', 'seed'])
  for (const name of ['database', 'tillDatabase', 'open'] as const)
    if (typeof options[name] !== 'function') throw misused(`\`${name}\`, a function`, options[name])
  return {
    ...options,
    withinMs: whole('withinMs', unlessGiven(options.withinMs, 15_000), 1_000, 600_000),
    seed: whole('seed', unlessGiven(options.seed, Math.floor(Math.random() * 1_000_000_000)), 0),
  }
}

function misused(expected: string, got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `mailboxContract needs ${expected}, got ${typeof got}`, {
    hint: 'mailboxContract(test, { database, tillDatabase, open }); see docs/links.md.',
  })
}
