import type { Test } from 'tap'
import { argument, Random, seedOfRun } from '../random.ts'
import { Break, Unfit } from './break.ts'

const SHRINK_MS = Number(argument('shrink') ?? 30_000)
/** Of so many cases most can be played. */
const MANY = 20

export type Play<C> = (one: C) => Promise<void>

/** Cases of some kind, as plain data. */
export interface Cases<C> {
  make(random: Random): C
  /** Where cases are played, one after another in each place. Each throws what it finds broken. */
  readonly places: readonly Play<C>[]
  /** A smaller one that breaks the same promise, found before the deadline. */
  shrink(one: C, kind: string, trial: (one: C) => Promise<Break | undefined>, deadline: number): Promise<C>
  storyOf(one: C): string
}

/**
 * Plays random cases for as long as the budget lasts, each of them a function of the seed and its number: `--seed=N --case=M` plays one
 * again. One that breaks a promise is made smaller and told.
 */
export async function holdsForRandomCases<C>(t: Test, cases: Cases<C>): Promise<void> {
  const seed = seedOfRun()
  const only = argument('case')
  const budgetMs = Number(argument('ms') ?? 3_000)
  t.comment(`--seed=${seed}${only === undefined ? '' : ` --case=${only}`}`)
  const deadline = performance.now() + budgetMs
  let [number, played, unfit] = [Number(only ?? 1), 0, 0]
  let broken: { readonly number: number; readonly one: C; readonly found: Break; readonly play: Play<C> } | undefined
  const isOver = () => only !== undefined || (performance.now() > deadline && (unfit < played / 2 || played > MANY))
  await Promise.all(
    cases.places.slice(0, only === undefined ? undefined : 1).map(async (play) => {
      do {
        const own = number++
        const one = cases.make(caseRandom(seed, own))
        const found = await trial(play, one)
        played++
        if (found === 'unfit') unfit++
        else if (found !== undefined) broken ??= { number: own, one, found, play }
      } while (broken === undefined && !isOver())
    }),
  )
  if (broken !== undefined) return tell(t, cases, broken, `--seed=${seed} --case=${broken.number}`)
  t.comment(`${played} cases, ${unfit} of them unfit`)
  t.ok(unfit < played / 2 || only !== undefined, 'most cases could be played')
}

function caseRandom(seed: number, number: number): Random {
  return new Random(Math.imul(seed, 0x9e3779b1) ^ Math.imul(number, 0x85ebca6b))
}

async function trial<C>(play: Play<C>, one: C): Promise<Break | 'unfit' | undefined> {
  try {
    await play(one)
    return undefined
  } catch (error) {
    if (error instanceof Unfit) return 'unfit'
    if (error instanceof Break) return error
    const { code, message, stack } = error as { code?: string; message?: string; stack?: string }
    return new Break(`error ${code ?? message?.slice(0, 30)}`, stack ?? String(error))
  }
}

async function tell<C>(
  t: Test,
  cases: Cases<C>,
  { one, found, play }: { readonly one: C; readonly found: Break; readonly play: Play<C> },
  which: string,
): Promise<void> {
  const again = async (smaller: C) => {
    const other = await trial(play, smaller)
    return other === 'unfit' ? undefined : other
  }
  const smallest = await cases.shrink(one, found.kind, again, Date.now() + SHRINK_MS)
  const last = (await again(smallest)) ?? found
  t.comment(which)
  t.comment(cases.storyOf(smallest))
  t.fail(`${which}: ${last.message}`)
}
