import { mirror } from '../apply/mirror.ts'
import { stockMovements } from '../apply/stock-movements.ts'
import { createCentral } from '../central.ts'
import type { Central } from '../central-face.ts'
import type { CentralOptions } from '../central-options.ts'
import { negate } from '../decimal.ts'
import type { CentralDatabase } from '../ports.ts'
import { query } from '../work.ts'

const SCHEMA = [
  ['receipts', 'location text, register text, id bigint, receipt_no text NOT NULL, note text, PRIMARY KEY (location, register, id)'],
  [
    'receipt_lines',
    'location text, register text, id bigint, receipt_id bigint NOT NULL, item_no text NOT NULL, quantity numeric NOT NULL, PRIMARY KEY (location, register, id)',
  ],
] as const
/** More than any test has, and enough to end one whose register asks without end. */
const EXCHANGES_PER_MINUTE = 20_000

/** A head office of a suite: it mirrors receipts, and posts what they take from stock at this location. */
export function contractCentral(database: CentralDatabase, location: string, options: Pick<CentralOptions<never>, 'pull' | 'mailboxes'>): Central {
  return createCentral({
    database,
    subscribe: {
      receipts: [
        mirror({ origin: ['location', 'register'] }),
        stockMovements((receipt) =>
          (receipt.parts.receipt_lines ?? []).map((line) => ({
            item: line.item_no,
            location,
            document: receipt.receipt_no,
            quantity: negate(line.quantity),
          })),
        ),
      ],
    },
    limits: { exchangesPerMinute: EXCHANGES_PER_MINUTE },
    longPollMs: 60_000,
    ...options,
  })
}

/** The host's tables that it needs, where they are not there yet. Tests may begin at the same time, in several processes too: IF NOT EXISTS alone lets two of them make one table. */
export async function createContractTables(database: CentralDatabase): Promise<void> {
  await database.open()
  await database.write(function* () {
    yield* query({ sql: "SELECT pg_advisory_xact_lock(hashtextextended('tillsync.contract', 0))", parameters: [] })
    for (const [table, columns] of SCHEMA) yield* query({ sql: `CREATE TABLE IF NOT EXISTS ${database.qualify(table)} (${columns})`, parameters: [] })
  })
}
