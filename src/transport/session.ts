import { type Point, START, type Standing, type Subscription } from '../model.ts'

/** What a publisher knows of the history of its stream. */
export interface Known {
  readonly epoch: string
  readonly ancestors: readonly { readonly epoch: string; readonly through: number }[]
  /** How the epoch began: where the subscriber then stood, the last point in common, and where its own entries begin if not there. */
  readonly branch: { readonly from: Standing; readonly common: Point; readonly start?: Point | undefined } | undefined
  readonly head: Point
  /** The first entry that it still has. */
  readonly first: number
}

/**
 * How a subscriber's standing lies to our history. Two sides that hold the same digest at a number hold the same history up to it; so its own
 * word is trusted only where our log has that very entry.
 */
export type Relation =
  /** It has nothing of us yet. */
  | 'nowhere'
  /** At an entry of ours, and what comes next is still here. */
  | 'here'
  /** Where it stood when our epoch began: what we decided then still holds. */
  | 'branched'
  /** At an entry of our history behind which entries were pruned, or where it stood when our epoch began, whose first entries were pruned. */
  | 'pruned'
  /** At an entry that our history, to which its epoch belongs, does not have: we were restored, or it has what we lost. */
  | 'apart'
  /** In an epoch that we have never heard of: we were restored to before it began, or are another database. */
  | 'elsewhere'

/** @param digestThere our digest at the number where it stands, equal to none where no document of ours ends; undefined where we have none */
function relate(known: Known, theirs: Standing | undefined, digestThere: string | undefined): Relation {
  if (theirs === undefined) return 'nowhere'
  const { branch } = known
  if (branch !== undefined && isSame(branch.from, theirs)) return (branch.start ?? branch.common).entryNo + 1 < known.first ? 'pruned' : 'branched'
  const ancestor = known.ancestors.find(({ epoch }) => epoch === theirs.epoch)
  if (theirs.epoch !== known.epoch && ancestor === undefined) return 'elsewhere'
  const through = theirs.epoch === known.epoch ? known.head.entryNo : (ancestor?.through ?? 0)
  if (theirs.entryNo > through) return 'apart'
  if (digestThere !== undefined && digestThere !== theirs.digest) return 'apart'
  if (theirs.entryNo + 1 < known.first) return 'pruned'
  return digestThere === undefined ? 'apart' : 'here'
}

export function pointOf({ entryNo, digest }: Point): Point {
  return { entryNo, digest }
}

function isSame(a: Standing, b: Standing): boolean {
  return a.epoch === b.epoch && a.entryNo === b.entryNo && a.digest === b.digest
}

/** Where a subscriber stands that has nothing. */
const NOWHERE: Standing = { epoch: '', ...START }

/** A search for the last point that both sides have. */
export interface Search {
  /** Where the subscriber stands. */
  readonly theirs: Standing
  /** The last point that is known to be in both histories. */
  readonly low: Point
  /** Beyond it nothing is looked for. */
  readonly high: number
}

/** What a publisher does next. */
export type State =
  /** Sends what comes after the point that was acknowledged. */
  | { readonly kind: 'sending' }
  | { readonly kind: 'seeking'; readonly search: Search }
  /** Another copy of this database speaks to the subscriber: it is told so, and nothing is sent. */
  | { readonly kind: 'cloned' }

/** What follows from an answer. */
export type Verdict =
  /** It stands at this point of our history: go on from there. */
  | { readonly kind: 'follow'; readonly standing: Standing | undefined }
  /** Ask for points between two numbers. */
  | { readonly kind: 'seek'; readonly search: Search }
  /**
   * The last point in common is found. With `epoch`, a new one is needed, since the subscriber knows another history by ours or one that we lost;
   * with `anew`, all must be sealed again, since what it lacks is pruned.
   */
  | { readonly kind: 'branch'; readonly from: Standing; readonly common: Point; readonly epoch: boolean; readonly anew: boolean }
  | { readonly kind: 'cloned' }
  /** Nothing is in common, and it has never met our epoch: this is another database under the name of one that the subscriber knows. */
  | { readonly kind: 'stranger' }

/**
 * What an answer means to a publisher in a state: a total function, without any effect.
 *
 * @param digestAt our digest at a number, equal to none where no document of ours ends; undefined where neither its entry is left nor the one behind it, which would prove it
 */
export function judge(state: State, known: Known, word: Subscription, digestAt: (entryNo: number) => string | undefined): Verdict {
  const { standing, known: isKnown, superseded, points } = word
  // What it would begin with may be pruned; then it stands at the beginning of a history that is not ours.
  const theirs = standing ?? (known.first > 1 ? NOWHERE : undefined)
  // It stands in our epoch at what we have, and went on with another one that lacks this: somebody else's, for we are not restored.
  if (superseded !== undefined && digestAt(superseded.entryNo) === superseded.digest) return { kind: 'cloned' }
  const relation =
    theirs === NOWHERE && known.branch?.from.epoch !== NOWHERE.epoch ? 'pruned' : relate(known, theirs, theirs && digestAt(theirs.entryNo))
  if (theirs === undefined || relation === 'here') return { kind: 'follow', standing: theirs }
  if (relation === 'branched' && known.branch) return { kind: 'follow', standing: { epoch: theirs.epoch, ...known.branch.common } }
  // It has nothing of our epoch, and of what comes before it only what was found then.
  if (relation === 'pruned' && known.branch !== undefined && isSame(known.branch.from, theirs))
    return { kind: 'branch', from: theirs, common: known.branch.common, epoch: true, anew: true }
  // The digest there may be gone with the entry: then that it is an epoch of ours must do.
  if (relation === 'pruned' || (relation === 'elsewhere' && digestAt(theirs.entryNo) === theirs.digest))
    return { kind: 'branch', from: theirs, common: pointOf(theirs), epoch: true, anew: theirs.entryNo + 1 < known.first }
  // Beyond our own end nothing is in common; points there would tell nothing, and keep those below from being told.
  const high = Math.min(theirs.entryNo, known.head.entryNo + 1)
  // Points that were asked for of another standing say nothing of what lies around this one.
  const asked = state.kind === 'seeking' && isSame(state.search.theirs, theirs) ? state.search : undefined
  const search: Search = asked ?? { theirs, low: START, high }
  const next = narrow(search, asked && points, digestAt)
  if (next !== undefined) return { kind: 'seek', search: next }
  const { low } = search
  if (relation === 'elsewhere' && low.entryNo === START.entryNo && !isKnown) return { kind: 'stranger' }
  const anew = low.entryNo + 1 < known.first
  const isAncestor = known.ancestors.some(({ epoch, through }) => epoch === theirs.epoch && low.entryNo <= through)
  return { kind: 'branch', from: theirs, common: low, epoch: anew || !isAncestor, anew }
}

/** The search with what points of the subscriber tell; undefined where they tell nothing more. */
function narrow(search: Search, points: readonly Point[] | undefined, digestAt: (entryNo: number) => string | undefined): Search | undefined {
  if (points === undefined) return search
  let { low, high } = search
  for (const point of points) {
    if (point.entryNo <= search.low.entryNo || point.entryNo >= search.high) continue
    const ours = digestAt(point.entryNo)
    if (ours === point.digest && point.entryNo > low.entryNo) low = point
    if (ours !== undefined && ours !== point.digest && point.entryNo < high) high = point.entryNo
  }
  return low === search.low && high === search.high ? undefined : { ...search, low, high }
}
