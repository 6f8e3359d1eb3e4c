import fc from 'fast-check'
import type { Test } from 'tap'

export interface Histories {
  readonly seed: number
  /** Which one is played again. */
  readonly path: string | undefined
  readonly budgetMs: number
}

/** How long the first one may take, whatever the budget: on a busy machine a server has hardly begun within a small one. */
const FIRST_MS = 40_000

/** Plays random histories for as long as the budget lasts, one at least, and says how to see one again that breaks. */
export async function playHistories<T>(t: Test, property: fc.IRawProperty<T>, { seed, path, budgetMs }: Histories): Promise<void> {
  const options = { seed, ...(path !== undefined && { path }), markInterruptAsFailure: false }
  const first = await fc.check(property, { ...options, numRuns: 1, interruptAfterTimeLimit: budgetMs + FIRST_MS })
  const rest = first.failed ? undefined : await fc.check(property, { ...options, numRuns: 10_000, interruptAfterTimeLimit: budgetMs })
  const result = rest?.counterexample ? rest : first
  t.comment(`${Math.max(first.numRuns, rest?.numRuns ?? 0)} histories`)
  if (result.failed) {
    t.comment(`--seed=${result.seed} --path=${result.counterexamplePath}`)
    t.comment(JSON.stringify(result.counterexample))
  }
  t.notOk(result.failed, String(result.errorInstance instanceof Error ? result.errorInstance.message : result.errorInstance))
  t.ok(first.numRuns > 0 || path !== undefined, 'any history was played')
}
