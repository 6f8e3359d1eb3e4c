import { TillsyncError } from '../errors.ts'
import type { HandlersByTable } from './handler.ts'
import { STOCK_MOVEMENTS } from './tables.ts'
import type { ReadsReceipts, WantsClosings, WantsMovements } from './wants.ts'

/** How a closing table's own lines are compared with the receipts: by what those bring, or, where nobody says that, by what they move. */
export type Compares =
  | { readonly by: 'lines'; readonly receipts: ReadsReceipts }
  | { readonly by: 'movements'; readonly table: string; readonly ledger: string }

/** What the handlers post, by root table. */
export interface ReconcilePlan {
  readonly movements: ReadonlyMap<string, readonly WantsMovements[]>
  readonly closings: ReadonlyMap<string, WantsClosings>
  /** Tables of receipts that closings are computed from, by table. */
  readonly computed: ReadonlyMap<string, ReadsReceipts>
  /** How closings of the till's own are compared, by their table; those that can't be are not in it. */
  readonly compared: ReadonlyMap<string, Compares>
  readonly closingTables: readonly string[]
  /** All tables whose documents are looked at. */
  readonly tables: readonly string[]
  /** Whether there is the library's own ledger of stock. */
  readonly hasStock: boolean
}

/** @throws ERR_OPTION where no handler posts anything */
export function planOf(handlers: HandlersByTable): ReconcilePlan {
  const all = [...handlers].flatMap(([table, own]) => own.flatMap(({ wants }) => (wants === undefined ? [] : [{ table, wants }])))
  const movements = new Map<string, WantsMovements[]>()
  const closings = new Map<string, WantsClosings>()
  for (const { table, wants } of all) {
    if (wants.kind === 'movements') movements.set(table, [...(movements.get(table) ?? []), wants])
    else closings.set(table, wants)
  }
  const read = [...closings.values()].flatMap(({ receipts }) => receipts ?? [])
  const computed = new Map(read.flatMap((receipts) => (receipts.isComputed ? [[receipts.table, receipts] as const] : [])))
  const compared = new Map([...closings].flatMap(([table, wants]) => comparisonOf(table, wants, movements)))
  if (all.length === 0) {
    throw new TillsyncError('ERR_OPTION', 'There is nothing to reconcile: no handler posts anything', {
      hint: 'subscribe: { receipts: stockMovements(…), plu_closings: pluClosings({ … }) }',
    })
  }
  return {
    movements,
    closings,
    computed,
    compared,
    closingTables: [...closings.keys()],
    tables: [...new Set([...movements.keys(), ...closings.keys(), ...read.map(({ table }) => table)])],
    hasStock: [...handlers.values()].flat().some(({ tables }) => tables.includes(STOCK_MOVEMENTS)),
  }
}

function comparisonOf(
  table: string,
  { receipts, sumsUp, moveStock }: WantsClosings,
  movements: ReadonlyMap<string, readonly WantsMovements[]>,
): readonly (readonly [string, Compares])[] {
  if (receipts !== undefined) return receipts.isComputed ? [] : [[table, { by: 'lines', receipts }]]
  // Goods that the closings move themselves say nothing of the receipts; and which of several tables they sum up, nobody says.
  const others = [...movements.keys()].filter((other) => other !== table)
  const other = sumsUp ?? (others.length === 1 ? others[0] : undefined)
  const [first] = other === undefined ? [] : (movements.get(other) ?? [])
  return moveStock || other === undefined || first === undefined ? [] : [[table, { by: 'movements', table: other, ledger: first.ledger.name }]]
}
