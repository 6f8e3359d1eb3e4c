import type { Facts } from './trace-facts.ts'
import type { Place } from './trace-search.ts'
import { isBefore, type VersionRow } from './trace-versions.ts'

/** What handlers do with documents of its table. */
export interface Handled {
  readonly any: boolean
  readonly removals: 'apply' | 'ignore'
}

/** The lives of a key, and which version of each is its last. */
export class Lives {
  private readonly of = new Map<VersionRow, number>()
  private readonly last = new Map<number, Place>()

  constructor(facts: Facts, versions: readonly VersionRow[]) {
    const known = exactly(facts)
    // What is sealed between two removals is one life; where a history was left, another may follow.
    let stretch: VersionRow[] = []
    let incarnation: number | undefined
    for (const [n, version] of versions.entries()) {
      const before = versions[n - 1]
      if (before !== undefined && (before.operation === 'remove' || before.epochNo !== version.epochNo)) {
        stretch = []
        if (before.operation === 'remove') incarnation = undefined
      }
      stretch.push(version)
      incarnation = known.get(nameOf(version)) ?? incarnation
      if (incarnation !== undefined) for (const one of stretch) this.of.set(one, incarnation)
    }
    for (const [version, life] of this.of) if (version.operation === 'upsert') this.last.set(life, version)
    for (const { incarnation, at } of facts.over) this.last.set(incarnation, at)
    for (const { incarnation, at } of facts.orphans) if (!isBefore(at, this.last.get(incarnation) ?? at)) this.last.set(incarnation, at)
    if (facts.known !== undefined && !facts.known.removed) this.last.set(facts.known.incarnation, facts.known)
  }

  incarnationOf(version: VersionRow): number | undefined {
    return this.of.get(version)
  }

  /** Its last version that is no removal. */
  lastOf(incarnation: number): Place | undefined {
    return this.last.get(incarnation)
  }
}

/** Of which places it is written down which life they are of. */
function exactly({ known, over, orphans, quarantine, postings, epochs }: Facts): ReadonlyMap<string, number> {
  const numbers = new Map([...epochs].map(([epochNo, epoch]) => [epoch, epochNo]))
  const places: [Place | undefined, number][] = [
    ...postings.map(({ epoch, entryNo, incarnation }): [Place, number] => [{ epochNo: numbers.get(epoch) ?? 0, entryNo }, incarnation]),
    ...over.flatMap(({ at, born, removal, incarnation }) => [at, born, removal].map((one): [Place | undefined, number] => [one, incarnation])),
    ...orphans.map(({ at, incarnation }): [Place, number] => [at, incarnation]),
    ...quarantine.flatMap(({ at, removal, applied, incarnation }) =>
      [at, removal, applied].map((one): [Place | undefined, number] => [one, incarnation]),
    ),
  ]
  if (known !== undefined) places.push([known.born, known.incarnation], [known, known.incarnation])
  return new Map(places.flatMap(([place, incarnation]) => (place === undefined ? [] : [[nameOf(place), incarnation]])))
}

function nameOf({ epochNo, entryNo }: Place): string {
  return `${epochNo} ${entryNo}`
}

export function isAt(a: Place | undefined, b: Place | undefined): boolean {
  return a !== undefined && b !== undefined && a.epochNo === b.epochNo && a.entryNo === b.entryNo
}

/** How far a version has come, and why no further. */
interface Said {
  readonly stage: 'archived' | 'quarantined' | 'applied'
  readonly why: string | undefined
}

const APPLIED: Said = { stage: 'applied', why: undefined }

export function stageOf(version: VersionRow, incarnation: number | undefined, facts: Facts, lives: Lives, handled: Handled): Said {
  const held = heldAt(version, facts)
  if (held !== undefined) return { stage: 'quarantined', why: whyHeld(held) }
  if (!handled.any) return { stage: 'archived', why: 'No handler is subscribed for its table' }
  const { operation } = version
  if (operation === 'baseline')
    return { stage: 'archived', why: 'What it was before its register began to publish it: only what has changed since counts' }
  if (operation === 'remove') {
    if (handled.removals === 'apply') return APPLIED
    return { stage: 'archived', why: 'Its register has removed it; what was applied stays' }
  }
  if (incarnation === undefined) return { stage: 'archived', why: 'Nothing says any more what became of it' }
  const last = lives.lastOf(incarnation)
  const waiting = last && heldAt(last, facts)
  if (waiting === undefined ? !isAt(version, last) : !isAt(version, waiting.applied)) {
    const isReplaced = last !== undefined && isBefore(version, last)
    return { stage: 'archived', why: isReplaced ? 'A later version has replaced it' : 'It came late, from a history that its register has left' }
  }
  const withdrawn = facts.orphans.find((orphan) => orphan.incarnation === incarnation && orphan.state === 'withdrawn')
  if (withdrawn !== undefined) return { stage: 'archived', why: `Withdrawn: ${withdrawn.reason}` }
  const isRemoved = facts.over.some((life) => life.incarnation === incarnation && life.removal !== undefined)
  if (isRemoved && handled.removals === 'apply') return { stage: 'archived', why: 'Its register has removed it' }
  return APPLIED
}

type Held = Facts['quarantine'][number]

export function heldAt(place: Place, { quarantine }: Facts): Held | undefined {
  return quarantine.findLast(({ at, removal }) => isAt(at, place) || isAt(removal, place))
}

function whyHeld({ state, code, message, reason }: Held): string {
  return state === 'discarded' ? `Discarded: ${reason}` : `${code}: ${message}`
}
