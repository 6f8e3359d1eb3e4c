import { hash } from 'node:crypto'
import t from 'tap'
import { type Point, START, type Standing, type Subscription } from '../../src/model.ts'
import { judge, type Known, type State, type Verdict } from '../../src/transport/session.ts'
import { Random, seedOfRun } from '../support/random.ts'

const seed = seedOfRun()
t.comment(`--seed=${seed}`)

/** A history: what stood in each entry, and so its digests. */
class History {
  readonly digests: string[] = [START.digest]

  write(...contents: readonly string[]): this {
    for (const content of contents) this.digests.push(hash('sha256', `${this.digests.at(-1)} ${content}`))
    return this
  }

  copy(through: number): History {
    const copy = new History()
    copy.digests.push(...this.digests.slice(1, through + 1))
    return copy
  }

  get head(): number {
    return this.digests.length - 1
  }

  at(entryNo: number): Point {
    return { entryNo, digest: this.digests[entryNo] as string }
  }

  in(epoch: string, entryNo = this.head): Standing {
    return { epoch, ...this.at(entryNo) }
  }
}

const SENDING: State = { kind: 'sending' }
const ten = () => new History().write(...'abcdefghij')

function known(history: History, more: Partial<Known> = {}): Known {
  return { epoch: 'e1', ancestors: [], branch: undefined, head: history.at(history.head), first: 1, ...more }
}

/** What the publisher still has a digest of: entries that are not pruned, the one before them, from which they go on, and the beginning. */
function verdict(history: History, word: Subscription, more: Partial<Known> = {}, state: State = SENDING): Verdict {
  const knows = known(history, more)
  return judge(state, knows, word, (n) => (n === 0 || n >= knows.first - 1 ? history.digests[n] : undefined))
}

t.test('a subscriber at an entry of ours is followed, wherever it is', async (t) => {
  const history = ten()
  t.same(verdict(history, {}), { kind: 'follow', standing: undefined })
  for (const n of [0, 3, 10]) t.same(verdict(history, { standing: history.in('e1', n) }), { kind: 'follow', standing: history.in('e1', n) })
  const past = { epoch: 'e2', ancestors: [{ epoch: 'e1', through: 6 }] }
  t.same(verdict(history, { standing: history.in('e1', 6) }, past), { kind: 'follow', standing: history.in('e1', 6) }, 'in a former epoch')
})

t.test('one that was there when the epoch began is told once more', async (t) => {
  const [history, theirs] = [ten(), ten().copy(6).write('x', 'y')]
  const branch = { from: theirs.in('e1'), common: history.at(6) }
  const past = { epoch: 'e2', ancestors: [{ epoch: 'e1', through: 6 }], branch }
  t.same(verdict(history, { standing: theirs.in('e1') }, past), { kind: 'follow', standing: history.in('e1', 6) })
})

t.test('what was pruned is sealed anew, behind the last common point', async (t) => {
  const history = ten()
  t.match(verdict(history, { standing: history.in('e1', 7) }, { first: 9 }), { kind: 'branch', common: history.at(7), epoch: true, anew: true })
  t.match(verdict(history, { standing: history.in('e1', 8) }, { first: 9 }), { kind: 'follow' }, 'the next one is there')
  t.match(verdict(history, { standing: ten().copy(7).write('x').in('e1') }, { first: 9 }), { kind: 'seek' }, 'the next one goes on from another')
  t.match(verdict(history, {}, { first: 5 }), { kind: 'branch', common: START, epoch: true, anew: true }, 'it has nothing, and the beginning is gone')
  const lost = ten().copy(6).write('x', 'y', 'z')
  const since = { epoch: 'e2', ancestors: [{ epoch: 'e1', through: 6 }], branch: { from: lost.in('e1'), common: history.at(6) } }
  const anew = { kind: 'branch', from: lost.in('e1'), common: history.at(6), epoch: true, anew: true }
  for (const first of [8, 10, 11])
    t.same(verdict(history, { standing: lost.in('e1') }, { ...since, first }), anew, 'it has not heard of the epoch, whose first are gone')
  const begun = { first: 5, epoch: 'e2', branch: { from: { epoch: '', ...START }, common: START, start: history.at(10) } }
  t.same(verdict(history, {}, begun), { kind: 'follow', standing: { epoch: '', ...START } }, 'not again and again')
})

t.test('a database without anything in common is a stranger; one that lost its name is not', async (t) => {
  const [history, other] = [ten(), new History().write('1', '2', '3')]
  const asked = verdict(history, { standing: other.in('e9') })
  t.match(asked, { kind: 'seek' })
  const state: State = { kind: 'seeking', search: (asked as Verdict & { kind: 'seek' }).search }
  t.same(verdict(history, { standing: other.in('e9'), points: [other.at(1), other.at(2)] }, {}, state).kind, 'seek', 'they differ')
  t.same(verdict(history, { standing: other.in('e9'), points: [] }, {}, state), { kind: 'stranger' })
  t.match(verdict(history, { standing: history.in('e9', 7) }), { kind: 'branch', common: history.at(7), epoch: true, anew: false })
})

t.test('points say nothing of another standing than that they were asked for of', async (t) => {
  const [history, theirs] = [ten(), ten().copy(6).write('x', 'y')]
  const state: State = { kind: 'seeking', search: { theirs: history.in('e1', 3), low: START, high: 1 } }
  t.match(verdict(history, { standing: theirs.in('e1'), points: [] }, {}, state), {
    kind: 'seek',
    search: { theirs: theirs.in('e1'), low: START, high: 8 },
  })
})

t.test('another copy shows by what it still has of us', async (t) => {
  const [history, theirs] = [ten(), ten().copy(6).write('x')]
  t.same(verdict(history, { standing: theirs.in('e2'), superseded: history.at(8) }), { kind: 'cloned' })
  t.match(verdict(history.copy(7), { standing: theirs.in('e2'), superseded: history.at(8) }), { kind: 'seek' }, 'one that was restored has it not')
})

t.test('the last common point is found exactly, in few steps', async (t) => {
  const random = new Random(seed)
  for (let n = 0; n < 300; n++) {
    const shared = random.int(0, 400)
    const common = new History().write(...Array.from({ length: shared }, (_, at) => `${at}`))
    const history = common.copy(shared).write(...Array.from({ length: random.int(0, 50) }, (_, at) => `ours ${at}`))
    const theirs = common.copy(shared).write(...Array.from({ length: random.int(1, 300) }, (_, at) => `theirs ${at}`))
    // Only some of its points are known at once, and none but the ends of its batches at first.
    const ends = new Set(Array.from({ length: random.int(0, 40) }, () => random.int(1, theirs.head)))
    let state: State = SENDING
    let steps = 0
    let found: Verdict = verdict(history, { standing: theirs.in('e1') })
    while (found.kind === 'seek' && steps++ < 40) {
      const { low, high } = found.search
      const between = Array.from({ length: Math.max(0, high - low.entryNo - 1) }, (_, at) => low.entryNo + 1 + at)
      const known = between.filter((at) => ends.has(at))
      const told = (known.length > 0 ? known : between).filter(() => random.chance(0.6) || between.length < 3)
      state = { kind: 'seeking', search: found.search }
      found = verdict(history, { standing: theirs.in('e1'), points: (told.length > 0 ? told : between).map((at) => theirs.at(at)) }, {}, state)
    }
    t.match(found, { kind: 'branch', common: history.at(shared), epoch: true, anew: false }, `${shared} of ${history.head} and ${theirs.head}`)
  }
})

t.test('whatever it hears, it comes to a verdict', async (t) => {
  const random = new Random(seed)
  const kinds = new Set<string>()
  for (let n = 0; n < 20_000; n++) {
    const histories = [ten(), ten().copy(random.int(0, 10)).write('x', 'y'), new History().write('1')]
    const history = random.pick(histories)
    const point = () => {
      const one = random.pick(histories)
      return one.at(random.int(0, one.head))
    }
    const epoch = () => random.pick(['e0', 'e1', 'e2', 'e9', ''])
    const standing = (): Standing => ({ epoch: epoch(), ...point() })
    const more: Partial<Known> = {
      epoch: epoch(),
      ancestors: random.chance(0.5) ? [{ epoch: epoch(), through: random.int(0, 12) }] : [],
      branch: random.chance(0.4) ? { from: standing(), common: point(), ...(random.chance(0.5) && { start: point() }) } : undefined,
      first: random.int(1, history.head + 1),
    }
    const word: Subscription = {
      ...(random.chance(0.9) && { standing: standing() }),
      ...(random.chance(0.2) && { superseded: point() }),
      ...(random.chance(0.5) && { points: Array.from({ length: random.int(0, 4) }, point) }),
    }
    const search = { theirs: word.standing ?? standing(), low: point(), high: random.int(0, 12) }
    const state = random.pick<State>([SENDING, { kind: 'seeking', search }, { kind: 'cloned' }])
    kinds.add(verdict(history, word, more, state).kind)
  }
  t.same([...kinds].sort(), ['branch', 'cloned', 'follow', 'seek', 'stranger'])
})
