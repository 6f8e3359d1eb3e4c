import { TillsyncError } from '../errors.ts'
import type { Handler } from './handler.ts'

type Handlers = ReadonlyMap<string, readonly Handler[]>

/** With what handlers do to documents of other tables, behind the handlers of those. */
export function withAlongside(handlers: Handlers): Handlers {
  const all = new Map(handlers)
  for (const handler of [...handlers.values()].flat())
    for (const [table, other] of Object.entries(handler.alongside ?? {})) all.set(table, [...(all.get(table) ?? []), other])
  return all
}

/**
 * A document is posted to a ledger by one handler, and goods move once: by receipts, or by the closings that sum them up.
 *
 * @throws ERR_RULE, ERR_POSTED_TWICE
 */
export function checkLedgers(handlers: Handlers): void {
  for (const [table, all] of handlers) {
    const ledgers = all.flatMap((handler) => handler.ledger ?? [])
    const twice = ledgers.find((ledger, n) => ledgers.indexOf(ledger) < n)
    if (twice !== undefined) {
      throw new TillsyncError('ERR_RULE', `\`subscribe.${table}\` has two handlers that post to \`${twice}\``, {
        hint: 'Let one function return the movements of both; two functions that are given as `post` are told apart by `ledger`.',
        context: { table },
      })
    }
    for (const handler of all) if (handler.name === 'pluClosings' && handler.movesStock !== undefined) checkMoved(handlers, table, handler)
  }
}

/** Where a closing does not say which receipts it sums up, they may be any. */
function checkMoved(handlers: Handlers, closings: string, closing: Handler): void {
  for (const [table, all] of handlers) {
    if (closing.sumsUp !== undefined && table !== closing.sumsUp && table !== closings) continue
    const other = all.find((handler) => handler !== closing && handler.movesStock === closing.movesStock)
    if (other === undefined) continue
    throw new TillsyncError('ERR_POSTED_TWICE', `\`${closings}\` and \`${table}\` both move stock in \`${other.movesStock}\``, {
      hint:
        closing.sumsUp === undefined
          ? `Leave \`moveStock\` out, or stockMovements() of \`${table}\`; where those are no receipts, name the table that the closings sum up: pluClosings({ receipts: 'receipts', … }).`
          : `Leave \`moveStock\` out, or stockMovements() of \`${table}\`.`,
      context: { table, closings },
    })
  }
}
