import type { RegisterName } from '../model.ts'
import type { ApplyingDatabase } from '../ports.ts'
import { query, type Work } from '../work.ts'
import { type Size, type Stretch, sizesIn, type WhichVersions } from './replay-versions.ts'
import { ARCHIVE, EPOCHS, REGISTERS } from './tables.ts'

/** Entries of an epoch of a register, as they are when a replay begins; what comes later its batches bring. */
export interface ReplayedEpoch extends Stretch {
  readonly epoch: string
}

/** A register with all of its epochs, the oldest first. */
export interface ReplayedRegister extends RegisterName {
  readonly registerId: number
  readonly epochs: readonly ReplayedEpoch[]
}

/** Registers with what there is of them in the archive. */
export function* readRegisters(database: ApplyingDatabase): Work<readonly ReplayedRegister[]> {
  const [registers, epochs, archive] = [REGISTERS, EPOCHS, ARCHIVE].map(({ name }) => database.qualify(name))
  const end = (order: string) =>
    `(SELECT a.entry_no FROM ${archive} a WHERE a.register_id = e.register_id AND a.epoch_no = e.epoch_no ORDER BY a.entry_no ${order} LIMIT 1)`
  const rows = yield* query<{
    register_id: number
    location: string
    register: string
    epoch_no: number | null
    epoch: string
    first: number | null
    last: number
  }>({
    sql: `SELECT r.register_id, r.location, r.register, e.epoch_no, e.epoch, ${end('ASC')} AS first, ${end('DESC')} AS last
          FROM ${registers} r LEFT JOIN ${epochs} e USING (register_id) ORDER BY r.register_id, e.epoch_no`,
    parameters: [],
  })
  return [...Map.groupBy(rows, ({ register_id }) => register_id)].map(([registerId, all]) => {
    const [{ location, register }] = all as [(typeof all)[number]]
    const own = all.flatMap(({ epoch_no, epoch, first, last }) =>
      epoch_no === null || first === null ? [] : [{ registerId, epochNo: epoch_no, epoch, after: first - 1, through: last }],
    )
    return { registerId, location, register, epochs: own }
  })
}

/** Entry numbers that are looked through at once. */
export const WINDOW = 5_000

/** Behind which entry of the stretch those begin that were received at a time or later. */
export function* behindOlder(database: ApplyingDatabase, { registerId, epochNo, after, through }: Stretch, since: string): Work<number> {
  let [from, to] = [after, through]
  while (to - from > WINDOW) {
    const middle = Math.floor((from + to) / 2)
    const [row] = yield* query<{ is_older: boolean }>({
      sql: `SELECT received_at < $4 AS is_older FROM ${database.qualify(ARCHIVE.name)}
            WHERE register_id = $1 AND epoch_no = $2 AND entry_no >= $3 ORDER BY entry_no LIMIT 1`,
      parameters: [registerId, epochNo, middle, since],
    })
    if (row?.is_older) from = middle
    else to = middle
  }
  return from
}

/** What one transaction takes: each bound by itself; of a larger document that one alone. */
const MOST = { documents: 250, entries: 1_000, bytes: 4_000_000 }

/** A window of a stretch in slices, each for one transaction; those in which nothing stands left out. */
export function* slicesIn(database: ApplyingDatabase, window: Stretch, which: WhichVersions): Work<readonly Stretch[]> {
  const sizes = yield* sizesIn(database, window, which)
  const slices: Stretch[] = []
  let { after } = window
  let slice: (Size & { readonly documents: number }) | undefined
  for (const { entryNo, entries, bytes } of sizes) {
    if (slice && (slice.documents === MOST.documents || slice.entries + entries > MOST.entries || slice.bytes + bytes > MOST.bytes)) {
      slices.push({ ...window, after, through: slice.entryNo })
      after = slice.entryNo
      slice = undefined
    }
    const { documents, ...before } = slice ?? { documents: 0, entries: 0, bytes: 0 }
    slice = { entryNo, documents: documents + 1, entries: before.entries + entries, bytes: before.bytes + bytes }
  }
  if (slice !== undefined) slices.push({ ...window, after, through: window.through })
  return slices
}
