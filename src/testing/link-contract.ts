import { CARRYING } from './carrying-clauses.ts'
import type { Clause } from './clause.ts'
import { ContractScene } from './contract-scene.ts'
import { FAULTS } from './fault-clauses.ts'
import { HISTORIES } from './history-clauses.ts'
import { type ContractTest, checkOptions, type LinkContractOptions } from './link-options.ts'
import { WAITING } from './waiting-clauses.ts'

const CLAUSES: readonly Clause[] = [...CARRYING, ...FAULTS, ...WAITING, ...HISTORIES]

/**
 * What every link must keep to, as tests: `test` is called once for each promise, at once. Each runs a real register on an SQLite file and a real
 * central on the host's PostgreSQL, with the host's link between them, and faults before it and behind it; in the end nothing is lost and nothing doubled.
 * The tests share nothing but the database, so they may run in any order. A minute, about, with a `timeoutMs` of 2,000.
 *
 * @throws ERR_OPTION
 */
export function linkContract(test: ContractTest, options: LinkContractOptions): void {
  const checked = checkOptions(test, options)
  for (const { name, onlyPush, act } of CLAUSES) {
    if (onlyPush && checked.serve !== undefined) continue
    test(name, () => ContractScene.play(checked, act))
  }
}
