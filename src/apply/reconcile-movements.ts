import type { ReconciledDay } from './reconcile-day.ts'
import type { ReconciledDocument } from './reconcile-page.ts'
import { byLedger, only, unequal } from './reconcile-sums.ts'
import { NO_SUMS, type SumsByDimension } from './sums.ts'
import { STOCK_MOVEMENTS } from './tables.ts'
import type { WantsMovements } from './wants.ts'

/**
 * Compares what a document should have moved on the day with what was posted for it, and that with the rows of the library's ledger. Returns what it wants, by ledger; what can't be said is
 * not in it.
 */
export function reconcileMovements(
  day: ReconciledDay,
  document: ReconciledDocument,
  all: readonly { readonly wants: WantsMovements; readonly removals: 'ignore' | 'apply' | undefined }[],
): ReadonlyMap<string, SumsByDimension> {
  const said = new Map<string, SumsByDimension>()
  for (const { wants, removals } of all) {
    const { name } = wants.ledger
    const posted = document.postedTo(name)
    const wanted = wantedBy(day, document, wants, removals)
    if (wanted !== undefined) {
      said.set(name, wanted)
      const lines = unequal(wanted, posted.all, day.isOn)
      if (lines.length > 0) day.differs(document, { why: 'posted', ledger: name }, lines)
    }
    day.wanted.addAll(byLedger(name, only(wanted ?? posted.all, day.isOn)))
    // What the host had posted itself before is wanted, and not in the ledger.
    day.wanted.subtractAll(byLedger(name, only(posted.all, day.isOn)))
    day.wanted.addAll(byLedger(name, only(posted.delivered, day.isOn)))
    day.posted.addAll(byLedger(name, only(name === STOCK_MOVEMENTS.name ? document.moved : posted.delivered, day.isOn)))
  }
  return said
}

/** What its ledger has of a document is what was delivered. */
export function reconcileLedger(day: ReconciledDay, document: ReconciledDocument, delivered: SumsByDimension): void {
  const lines = unequal(delivered, document.moved, day.isOn)
  if (lines.length > 0) day.differs(document, { why: 'ledger', ledger: STOCK_MOVEMENTS.name }, lines)
}

function wantedBy(
  day: ReconciledDay,
  document: ReconciledDocument,
  wants: WantsMovements,
  removals: 'ignore' | 'apply' | undefined,
): SumsByDimension | undefined {
  const { standing, origin } = document
  if (document.isUnknown(wants.ledger.name)) {
    day.cannotSay(document, wants.ledger.name, undefined)
    return undefined
  }
  if (standing.document === undefined || !document.counts(removals)) return NO_SUMS
  try {
    return wants.wanted(standing.document.again(), origin)
  } catch (thrown) {
    day.cannotSay(document, wants.ledger.name, thrown)
    return undefined
  }
}
