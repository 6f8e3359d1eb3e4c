import { TillsyncError } from '../errors.ts'
import type { AnyDocument, RegisterName } from '../model.ts'
import type { AppliedDocument } from './document-set.ts'
import type { Handler } from './handler.ts'
import { type Movement, type SumsByDimension, sumUp } from './movements.ts'
import { nameOf, Poster, postedOf } from './postings.ts'
import { POSTINGS, STOCK_LEVELS, STOCK_MOVEMENTS } from './tables.ts'

/**
 * Posts stock movements by difference: what the latest version of a document should have caused, less what was posted
 * for it, per dimension. A duplicate, a re-export or a replay posts nothing, a correction the correction. Posted rows are
 * never changed. The removal of a whole document (a till that purges) posts nothing.
 *
 * @param movements a pure function of the document and of the register that sent it; it may be called again for the same one
 */
export function stockMovements<D = AnyDocument>(movements: (document: D, origin: RegisterName) => readonly Movement[]): Handler<D> {
  if (typeof movements !== 'function') {
    throw new TillsyncError('ERR_OPTION', `Expected the first argument of stockMovements() to be a function, got ${typeof movements}`, {
      hint: 'stockMovements((receipt) => receipt.parts.receipt_lines.map((line) => ({ item: line.item_no, … })))',
    })
  }
  return {
    name: 'stockMovements',
    ledger: STOCK_MOVEMENTS.name,
    tables: [POSTINGS, STOCK_MOVEMENTS, STOCK_LEVELS],
    *check() {},
    *apply(documents, context) {
      const present = documents.filter((document) => !document.removed)
      const { location, register } = context.origin
      const wantedBy = (document: AppliedDocument) => wantedOf(document, () => movements(document.value as D, { location, register }))
      const wanted = present.map(wantedBy)
      const posted = yield* postedOf(present, context)
      const post = new Poster(context)
      for (const [n, document] of present.entries()) {
        const before = posted.get(nameOf(document)) ?? (document.baseline && post.addBaseline(document, wantedBy(document.baseline)))
        post.add(document, wanted[n] as SumsByDimension, before)
      }
      yield* post.write()
    },
    *withdraw(documents, context) {
      const posted = yield* postedOf(documents, context)
      const post = new Poster(context)
      for (const document of documents) post.add(document, new Map(), posted.get(nameOf(document)))
      yield* post.write()
    },
  }
}

function wantedOf(document: AppliedDocument, movements: () => readonly Movement[]): SumsByDimension {
  try {
    return sumUp(movements())
  } catch (error) {
    // What the host's function says may hold values of rows; it stays at central, as the cause.
    throw about(
      document,
      error instanceof TillsyncError
        ? error
        : new TillsyncError('ERR_HANDLER', 'The function of stockMovements() threw', {
            hint: "Central's event `refused` has the cause.",
            cause: error,
          }),
    )
  }
}

/** Says which document it was; its record id is a name, not a value of the row. */
function about(document: AppliedDocument, error: TillsyncError): TillsyncError {
  const code = error.code === 'ERR_VALUE' ? 'ERR_MOVEMENT' : error.code
  const context = { ...error.context, table: document.table, recordId: document.recordId }
  return new TillsyncError(code, error.message, { hint: error.hint, context, cause: error.cause ?? error })
}
