import type { Break } from './break.ts'
import type { Case } from './steps.ts'

/** The break that a case leads to, or undefined. */
export type Trial = (one: Case) => Promise<Break | undefined>

/** A smaller case that breaks the same promise: by leaving out what it breaks without, in halves, quarters and so on. */
export async function shrink(one: Case, kind: string, trial: Trial, deadline: number): Promise<Case> {
  const breaks = async (smaller: Case) => (await trial(smaller))?.kind === kind
  let smallest = one
  for (let before = Number.POSITIVE_INFINITY; before > sizeOf(smallest) && Date.now() < deadline; ) {
    before = sizeOf(smallest)
    smallest = await withoutSome(smallest, 'steps', breaks, deadline)
    smallest = await withoutSome(smallest, 'schema', breaks, deadline)
    for (const simpler of simplerCases(smallest)) if (Date.now() < deadline && (await breaks(simpler))) smallest = simpler
  }
  return smallest
}

function sizeOf({ steps, schema, rules }: Case): number {
  return steps.length + schema.length + JSON.stringify(rules).length
}

/** Leaves out of one of its lists what it breaks without. */
export async function withoutSome<K extends string, C extends Readonly<Record<K, readonly unknown[]>>>(
  one: C,
  what: K,
  breaks: (one: C) => Promise<boolean>,
  deadline: number,
): Promise<C> {
  let smallest = one
  for (let size = Math.ceil(one[what].length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < smallest[what].length; ) {
      if (Date.now() > deadline) return smallest
      const list = smallest[what]
      const smaller = { ...smallest, [what]: [...list.slice(0, from), ...list.slice(from + size)] }
      if (await breaks(smaller)) smallest = smaller
      else from += size
    }
  }
  return smallest
}

function* simplerCases(one: Case): Generator<Case> {
  if (one.twoCollectors) yield { ...one, twoCollectors: false }
  // A deferred transaction is for a library that knows the connection.
  const deferred = one.steps.some((step) => step.do === 'sql' && step.sql === 'BEGIN')
  if (one.library !== 'own' && !deferred) yield { ...one, library: 'own' }
  if (one.connections > 1) yield { ...one, connections: 1 }
  for (const [n, rule] of one.rules.entries()) {
    const replaced = (root: Partial<typeof rule>) => ({ ...one, rules: one.rules.map((other, at) => (at === n ? { ...rule, ...root } : other)) })
    if (one.rules.length > 1) yield { ...one, rules: one.rules.filter((_, at) => at !== n) }
    if (rule.where !== undefined) yield replaced({ where: undefined })
    if (rule.identity.length > 0) yield replaced({ identity: [] })
    if (rule.only !== undefined || rule.except !== undefined) yield replaced({ only: undefined, except: undefined })
    if (rule.existing !== 'none') yield replaced({ existing: 'none' })
    if (rule.parts.length > 0) yield replaced({ parts: [] })
  }
}
