import { TillsyncError } from '../errors.ts'
import type { AnyDocument, RegisterName } from '../model.ts'
import { known } from '../options.ts'
import type { OwnTable } from '../own-table.ts'
import type { Work } from '../work.ts'
import type { AppliedDocument } from './document-set.ts'
import type { ApplyContext, Handler } from './handler.ts'
import { hostLedger, type LedgerTable, type PostFunction } from './host-ledger.ts'
import { kindOf, mapped } from './mapping.ts'
import { MOVEMENT_MEASURES, type Movement, sumUp } from './movements.ts'
import { type Ledger, nameOf, Poster, postedOf } from './postings.ts'
import { STOCK_LEDGER } from './stock-ledger.ts'
import { NO_SUMS, readScale, type Scale, type SumsByDimension } from './sums.ts'
import { POSTINGS, STOCK_LEVELS, STOCK_MOVEMENTS } from './tables.ts'

export interface StockMovementsOptions {
  /**
   * What the removal of a whole document does. 'ignore': nothing, for a till that purges old receipts does not return goods. 'apply': what it has
   * posted is reversed. Default 'ignore'.
   */
  readonly removals?: 'ignore' | 'apply'
  /**
   * The host's own ledger, which gets each posting once, in the transaction of its batch, instead of `stock_movements` and `stock_levels`: a table with a
   * function that makes its rows, or a function that writes by itself.
   */
  readonly post?: LedgerTable | PostFunction
  /**
   * By which name the ledger is known, so that what was posted to it is found again. It must stay the same. Default: the table's name, for a function 'post', for the
   * library's own 'stock_movements'.
   */
  readonly ledger?: string
  /** Digits behind the point to which quantities and amounts are rounded, half to even: for REAL columns of a till. From 0 to 6; default: doubles to 6, what is exact not at all. */
  readonly scale?: Scale<(typeof MOVEMENT_MEASURES)[number]>
}

/**
 * Posts stock movements by difference: what the latest version of a document should have caused, less what was posted
 * for it, per dimension. A duplicate, a re-export or a replay posts nothing, a correction the correction. Posted rows are
 * never changed.
 *
 * @param movements a pure function of the document and of the register that sent it; it may be called again for the same one
 * @throws ERR_OPTION
 */
export function stockMovements<D = AnyDocument>(
  movements: (document: D, origin: RegisterName) => readonly Movement[],
  options: StockMovementsOptions = {},
): Handler<D> {
  if (typeof movements !== 'function') {
    throw new TillsyncError('ERR_OPTION', `Expected the first argument of stockMovements() to be a function, got ${kindOf(movements)}`, {
      hint: 'stockMovements((receipt) => receipt.parts.receipt_lines.map((line) => ({ item: line.item_no, … })))',
    })
  }
  const { ledger, removals, scales, check, tables } = readOptions(options)
  const wantedBy = (document: AppliedDocument, { origin: { location, register } }: { readonly origin: RegisterName }): SumsByDimension =>
    document.removed
      ? NO_SUMS
      : mapped(
          document,
          'stockMovements()',
          'ERR_MOVEMENT',
          () => movements(document.value as D, { location, register }),
          (value) => sumUp(value, scales),
        )
  const planned = function* (documents: readonly AppliedDocument[], context: ApplyContext): Work<Poster> {
    const counting = removals === 'apply' ? documents : documents.filter((document) => !document.removed)
    const wanted = counting.map((document) => wantedBy(document, context))
    const known = counting.filter((document) => !document.isNew)
    const posted = yield* postedOf(known, ledger, context)
    const post = new Poster(ledger, context)
    for (const [n, document] of counting.entries()) {
      const before = post.withBaseline(document, posted.get(nameOf(document)), (baseline) => wantedBy(baseline, context))
      post.add(document, wanted[n] as SumsByDimension, before)
    }
    return post
  }
  return {
    name: 'stockMovements',
    ledger: ledger.name,
    movesStock: ledger.name,
    removals,
    tables,
    check,
    wants: { kind: 'movements', ledger, wanted: (document, origin) => wantedBy(document, { origin }) },
    *apply(documents, context) {
      yield* (yield* planned(documents, context)).write()
    },
    *differing(documents, context) {
      return (yield* planned(documents, context)).differing
    },
    *withdraw(documents, context) {
      const posted = yield* postedOf(documents, ledger, context)
      const post = new Poster(ledger, context)
      for (const document of documents) post.add(document, NO_SUMS, posted.get(nameOf(document)))
      yield* post.write()
    },
  }
}

interface ReadOptions {
  readonly ledger: Ledger
  readonly removals: 'ignore' | 'apply'
  readonly scales: ReturnType<typeof readScale>
  readonly tables: readonly OwnTable[]
  readonly check: Handler['check']
}

function readOptions(options: StockMovementsOptions): ReadOptions {
  if (typeof options !== 'object' || options === null) {
    throw new TillsyncError('ERR_OPTION', `Expected the options of stockMovements() to be an object, got ${kindOf(options)}`, {
      hint: "stockMovements(movements, { removals: 'apply' })",
    })
  }
  known('stockMovements', options, ['removals', 'post', 'ledger', 'scale'])
  const { post, ledger: name } = options
  const removals = readRemovals('stockMovements', options.removals)
  const scales = readScale('stockMovements.scale', options.scale, MOVEMENT_MEASURES)
  if (name !== undefined && (typeof name !== 'string' || name === '' || name.length > 200 || post === undefined)) {
    throw new TillsyncError('ERR_OPTION', 'Expected `stockMovements.ledger` to be the name of a ledger, beside `post`', {
      hint: "{ post: …, ledger: 'item ledger' }",
    })
  }
  if (post === undefined) return { ledger: STOCK_LEDGER, removals, scales, tables: [POSTINGS, STOCK_MOVEMENTS, STOCK_LEVELS], *check() {} }
  const ledger = hostLedger(post, name)
  return { ledger, removals, scales, tables: [POSTINGS], check: (database): Work<void> => ledger.check(database) }
}

/** @throws ERR_OPTION */
export function readRemovals(handler: string, removals: unknown): 'ignore' | 'apply' {
  if (removals === undefined || removals === 'ignore' || removals === 'apply') return removals ?? 'ignore'
  throw new TillsyncError('ERR_OPTION', `Expected \`${handler}.removals\` to be 'ignore' or 'apply', got ${kindOf(removals)}`, {
    hint: "A till that purges old receipts does not return goods: 'ignore' is the default.",
  })
}
