import { LETTERS } from './letter-clauses.ts'
import type { ContractTest } from './link-options.ts'
import { checkMailboxOptions, type MailboxContractOptions } from './mailbox-options.ts'
import { MailboxScene } from './mailbox-scene.ts'
import { POST } from './post-clauses.ts'

/** One promise of the contract: what it says, and what shows that it is kept. */
export interface MailboxClause {
  readonly name: string
  act(scene: MailboxScene): Promise<void>
}

/**
 * What every mailbox must keep to, as tests: `test` is called once for each promise, at once. The first ones look at the mailboxes alone; the others run real registers on SQLite files and
 * real centrals on the host's PostgreSQL, with the host's mailboxes between them and faults before those: letters that are lost, doubled, late, cut off, or of 30 days ago; in the end nothing is
 * lost and nothing doubled. The tests share nothing but the database, so they may run in any order. A minute, about.
 *
 * @throws ERR_OPTION
 */
export function mailboxContract(test: ContractTest, options: MailboxContractOptions): void {
  const checked = checkMailboxOptions(test, options)
  for (const { name, act } of [...LETTERS, ...POST]) test(name, () => MailboxScene.play(checked, act))
}
