import { TillsyncError } from '../errors.ts'
import type { AnyDocument, RegisterName } from '../model.ts'
import type { Work } from '../work.ts'
import { CLOSINGS_LEDGER, type MovesGoods, movedOtherwise, movesGoods } from './closing-goods.ts'
import { type ClosingRule, type PartName, type PluClosingsOptions, readClosingOptions } from './closing-options.ts'
import { closingReceipts, receiptLines } from './closing-receipts.ts'
import { settleClosings, withHeader } from './closing-settlement.ts'
import { compareClosings, type WantedClosing, writeClosings } from './closing-state.ts'
import { CLOSING_TABLES, POSTED_CLOSINGS } from './closing-tables.ts'
import { checkTotals, type KnownClosing, readClosing, readLines } from './closings.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext, Handler } from './handler.ts'
import { mapped } from './mapping.ts'
import { nameOf, Poster, postedOf } from './postings.ts'
import { dateOf, NO_SUMS, type SumsByDimension } from './sums.ts'
import { POSTINGS, STOCK_LEVELS, STOCK_MOVEMENTS } from './tables.ts'
import type { ReadsReceipts } from './wants.ts'

/**
 * Posts closings to `posted_plu_closings` and `posted_plu_closing_lines`, by difference: what a closing and its lines say, or its receipts, less what was posted for
 * it. A posted closing never changes; what comes late, or was corrected, becomes a supplementary closing of the same business date. A duplicate, a re-export, a replay post
 * nothing.
 *
 * A closing that is computed waits until all entries before its own are applied and none of its receipts is in quarantine.
 *
 * @throws ERR_OPTION
 */
export function pluClosings<D = AnyDocument, const P extends PartName<D> = PartName<D>, const T extends PartName<D> = PartName<D>>(
  options: PluClosingsOptions<D, P, T>,
): Handler<D> {
  const rule = readClosingOptions(options as unknown as PluClosingsOptions<AnyDocument, string, string>)
  const { receipts, moveStock } = rule
  const stock = moveStock ? [STOCK_MOVEMENTS, STOCK_LEVELS] : []
  const handler: Handler<D> = {
    ...posting(rule, () => (moveStock ? 'yes' : 'no')),
    name: 'pluClosings',
    ledger: POSTED_CLOSINGS.name,
    removals: rule.removals,
    tables: [POSTINGS, ...CLOSING_TABLES, ...stock],
    ...(moveStock && { movesStock: STOCK_MOVEMENTS.name }),
    ...(rule.sumsUp !== undefined && { sumsUp: rule.sumsUp }),
    ...(receipts && { alongside: { [receipts.table]: closingReceipts(receipts) } }),
    wants: {
      kind: 'closings',
      moveStock,
      sumsUp: rule.sumsUp,
      receipts: readsReceipts(rule),
      wanted: (document, origin) => wantedOf(rule, document, { origin }),
    },
    *check() {},
    within: (subscribed) => ({ ...handler, ...posting(rule, (table) => movesGoods(table, moveStock, subscribed)) }),
  }
  return handler
}

/** What it does with closings, once it is known who moves the goods of a table's. */
function posting(rule: ClosingRule, movesOf: (table: string) => MovesGoods): Pick<Handler, 'apply' | 'differing' | 'withdraw' | 'finish'> {
  const { receipts } = rule
  return {
    *apply(documents, context) {
      const wanted = countingOf(rule, documents).map((document) => wantedOf(rule, document, context))
      const { changed } = yield* compareClosings(wanted, context)
      const rebased = yield* rememberBaselines(rule, countingOf(rule, documents), context)
      const unmoved = yield* movedOtherwise(wanted, changed, movesOf, context)
      yield* writeClosings(
        wanted.filter((one) => changed.has(one) || rebased.has(one.document) || unmoved.has(one)),
        context,
      )
    },
    *differing(documents, context) {
      const wanted = countingOf(rule, documents).map((document) => wantedOf(rule, document, context))
      const { differing } = yield* compareClosings(wanted, context)
      const unmoved = yield* movedOtherwise(wanted, differing, movesOf, context)
      return new Set([...differing, ...unmoved].map(({ document }) => document))
    },
    *withdraw(documents, context) {
      yield* writeClosings(
        documents.map((document) => nothing(rule, document)),
        context,
      )
    },
    finish: (table, context) => settleClosings(table, { receipts, moves: movesOf(table) }, context),
  }
}

function countingOf({ removals }: ClosingRule, documents: readonly AppliedDocument[]): readonly AppliedDocument[] {
  return removals === 'apply' ? documents : documents.filter(({ removed }) => !removed)
}

function wantedOf(
  rule: ClosingRule,
  document: AppliedDocument,
  { origin: { location, register } }: { readonly origin: RegisterName },
): WantedClosing {
  if (document.removed) return nothing(rule, document)
  const origin = { location, register }
  const { value } = document
  const call = <T>(map: () => unknown, read: (value: unknown) => T): T => mapped(document, 'pluClosings()', 'ERR_CLOSING', map, read)
  const closing = call(
    () => rule.closing(value as never, origin),
    (found) => readClosing(found, rule.scales, rule.receipts !== undefined),
  )
  const { line } = rule
  if (closing === undefined) return nothing(rule, document)
  if (line === undefined) return { document, closing, lines: undefined }
  const lines = call(
    () => partsOf(rule, document).map((one) => line(one as never, value as never, origin)),
    (found) => readLines(found, rule.scales),
  )
  call(
    () => lines,
    () => checkTotals(closing, lines),
  )
  return { document, closing, lines }
}

function readsReceipts({ receipts, summed }: ClosingRule): ReadsReceipts | undefined {
  const read = receipts ?? summed
  if (read === undefined) return undefined
  const { table, date, removals } = read
  return {
    table,
    isComputed: receipts !== undefined,
    removals,
    dateOf: ({ value }) => (date === undefined ? undefined : dateOf(value[date])),
    lines: (document, origin) => receiptLines(read, document, origin),
  }
}

function nothing(rule: ClosingRule, document: AppliedDocument): WantedClosing {
  return { document, closing: undefined, lines: rule.line === undefined ? undefined : NO_SUMS }
}

function partsOf({ part }: ClosingRule, { value: { parts } }: AppliedDocument): readonly unknown[] {
  const names = Object.keys(parts)
  const name = part ?? (names.length === 1 ? names[0] : undefined)
  const found = name === undefined ? undefined : parts[name]
  if (found !== undefined) return found
  throw new TillsyncError(
    'ERR_CLOSING',
    part === undefined ? 'The closing has several part tables, or none' : `The closing has no part table \`${part}\``,
    {
      hint: "Name the one with its lines: pluClosings({ lines: 'plu_closing_lines', … }), and publish it at the till.",
    },
  )
}

/** What the host had closed before the register began to publish it counts as posted, and is delivered nowhere. Returns the documents of which that is news. */
function* rememberBaselines(rule: ClosingRule, documents: readonly AppliedDocument[], context: ApplyContext): Work<ReadonlySet<AppliedDocument>> {
  const before = documents.filter(({ baseline, removed }) => baseline !== undefined && !removed)
  if (before.length === 0) return new Set()
  const posted = yield* postedOf(before, CLOSINGS_LEDGER, context)
  const post = new Poster(CLOSINGS_LEDGER, context)
  for (const document of before) {
    post.withBaseline(document, posted.get(nameOf(document)), (baseline) => {
      const { closing, lines } = wantedOf(rule, baseline, context)
      return baselineOf(closing, lines)
    })
  }
  yield* post.write()
  return post.differing
}

function baselineOf(closing: KnownClosing | undefined, lines: SumsByDimension | undefined): SumsByDimension {
  return closing === undefined || lines === undefined ? NO_SUMS : withHeader(closing, lines)
}
