import { TillsyncError } from '../errors.ts'
import type { AnyDocument, PartShape } from '../model.ts'
import { type AppliedDocument, tablesOf } from './document-set.ts'
import type { Mirror, Subscribed } from './handler.ts'
import { writeDocuments, writeLeft } from './mirror-documents.ts'
import { type MirrorOptions, type PlainMirrorOptions, readMirrorOptions } from './mirror-options.ts'
import { refuseOvertaken } from './mirror-present.ts'
import { clear, removeDocuments } from './mirror-removals.ts'
import { MirrorSet, type OptionsOf } from './mirror-set.ts'
import { checkOptions, readTargets } from './mirror-target.ts'

/**
 * Keeps tables equal to the documents' latest versions: the root's and its parts', lines that are gone included, by primary key. What does not differ is not
 * written. Values become the target's column types; a column that the till does not send is left alone. The removal of a whole document is ignored unless
 * `removals` says otherwise: a till that purges old receipts does not take them from head office.
 *
 * A part is kept as its root's `origin` and `rows` say; an entry of its own in `subscribe` says what else holds for it.
 *
 * @throws ERR_OPTION
 */
export function mirror<D = AnyDocument>(options: MirrorOptions<NoInfer<D>> = {}): Mirror<D> {
  return make(readMirrorOptions(options), new Map())
}

/** What each mirror was made with, to be found by those of other tables. */
const made = new WeakMap<object, PlainMirrorOptions>()

/** What a mirror was made with; undefined of another handler. */
export function mirrorOptions(handler: object): PlainMirrorOptions | undefined {
  return made.get(handler)
}

/** What holds for each table of a root whose mirror has these options. */
export function optionsWithin(options: PlainMirrorOptions, subscribed: Subscribed): OptionsOf {
  return (table, root) => (table === root ? options : partOptions(options, subscribed.get(table)))
}

/**
 * Rows of two tables in one would be taken for each other's: what the documents of one do not have would go, though it is the other's.
 *
 * @throws ERR_RULE
 */
export function refuseSharedTargets(subscribed: Subscribed): void {
  const mirrored = new Map<string, string>()
  for (const [table, handlers] of subscribed) {
    const options = handlers.map(mirrorOptions).find((one) => one !== undefined)
    if (options === undefined) continue
    const target = options.rename?.table ?? table
    const other = mirrored.get(target)
    mirrored.set(target, table)
    if (other === undefined) continue
    throw new TillsyncError('ERR_RULE', `\`subscribe.${other}\` and \`subscribe.${table}\` would both be mirrored in \`${target}\``, {
      hint: 'Give each a table of its own, by `rename`; a view may show both.',
      context: { table: target },
    })
  }
}

/** The mirror that `options` make, told what else is subscribed. */
export function make<D>(options: PlainMirrorOptions, subscribed: Subscribed): Mirror<D> {
  const optionsOf = optionsWithin(options, subscribed)
  const nameOf = (table: string, root: string): string => optionsOf(table, root).rename?.table ?? table
  const isRemoving = options.removals === 'apply'
  const handler: Mirror<D> = {
    name: 'mirror',
    removals: options.removals ?? 'ignore',
    tables: [],
    within: (others) => make(options, others),
    *check(database, table) {
      for (const target of (yield* readTargets(database, [nameOf(table, table)])).values()) checkOptions(target, options)
    },
    targets: (documents) => namesOf(documents).map((table) => nameOf(table, documents[0]?.table ?? table)),
    *apply(documents, context) {
      const set = yield* MirrorSet.open(documents, context, optionsOf)
      if (context.overtaken === 'refuse') yield* refuseOvertaken(set)
      yield* writeDocuments(set, isRemoving)
    },
    *complete(documents, context, isLast) {
      if (MirrorSet.left(context, documents[0]?.table ?? '').again.size === 0) return
      yield* writeLeft(yield* MirrorSet.open(documents, context, optionsOf), isRemoving, isLast)
    },
    *clear(documents, context, step, only) {
      const isGone = MirrorSet.left(context, documents[0]?.table ?? '').gone
      if (!isGone && !(isRemoving && documents.some(({ removed }) => removed))) return
      yield* clear(yield* MirrorSet.open(documents, context, optionsOf), isRemoving, step, only)
    },
    *withdraw(documents, context) {
      yield* removeDocuments(yield* MirrorSet.open(documents, context, optionsOf))
    },
  }
  made.set(handler, options)
  return handler
}

/** The root's table and those of its parts. */
function namesOf(documents: readonly AppliedDocument[]): readonly string[] {
  const shapes = new Set<readonly PartShape[]>(documents.map(({ shape }) => shape))
  return [...new Set([documents[0]?.table ?? '', ...[...shapes].flatMap(tablesOf)])]
}

/** What holds for a part: whose rows they are, and from whom, its root's mirror says unless its own does. */
function partOptions(root: PlainMirrorOptions, handlers: readonly object[] | undefined): PlainMirrorOptions {
  const own = handlers?.map((handler) => made.get(handler)).find((options) => options !== undefined)
  const origin = own?.origin ?? root.origin
  const rows = own?.rows ?? root.rows
  return { ...own, ...(origin && { origin }), ...(rows && { rows }) }
}

export function isMirror(handler: object): boolean {
  return made.has(handler)
}
