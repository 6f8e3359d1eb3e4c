import { type Point, START, type Standing } from '../model.ts'

/** What a publisher concludes from where its subscriber says it stands. */
export type Verdict =
  /** Go on from there. */
  | { readonly kind: 'follow'; readonly after: Point }
  /** Its history and ours part somewhere before that point. */
  | { readonly kind: 'forked' }

/**
 * Two sides that hold the same digest at a number hold the same history up to it; so the subscriber's own word is
 * trusted only where our log has that very entry.
 *
 * @param digestThere our digest at the number where the subscriber stands; undefined where we have no such entry
 */
export function judge(epoch: string, theirs: Standing | undefined, digestThere: string | undefined): Verdict {
  if (theirs === undefined) return { kind: 'follow', after: START }
  if (theirs.epoch !== epoch || digestThere !== theirs.digest) return { kind: 'forked' }
  return { kind: 'follow', after: { entryNo: theirs.entryNo, digest: theirs.digest } }
}
