/** A touch as it is read from sync_touches. */
export interface TouchRow {
  readonly xid: number
  /** What its transaction saw of others. */
  readonly seen: string
  /** The command of its transaction that wrote it. */
  readonly command: number
  /** Where it lies, as a ctid. */
  readonly place: string
  readonly source: number
  readonly kind: number
  readonly key: string | null
  /** The oldest transaction that ran when it was read. */
  readonly horizon: string
}

/** Where a snapshot ends: it saw nothing of transactions from there on. A snapshot is `xmin:xmax:xip,xip…`, see https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT */
export function endOf(snapshot: string): number {
  return Number(snapshot.split(':', 2)[1])
}

/**
 * A transaction that saw another's work has a later snapshot: its end is higher, or it is the same and fewer were still
 * running. Within a transaction the order of its commands.
 */
export function inOrder(rows: readonly TouchRow[]): readonly TouchRow[] {
  const positions = new Map<number, readonly [number, number]>()
  for (const { xid, seen } of rows) {
    const [, end = '', running = ''] = seen.split(':')
    const open = (running === '' ? 0 : running.split(',').length) + (xid < Number(end) ? 1 : 0)
    const position = [Number(end), -open] as const
    const before = positions.get(xid)
    if (before === undefined || compare(before, position) < 0) positions.set(xid, position)
  }
  const order = rows.map((row) => [...(positions.get(row.xid) ?? []), row.xid, row.command, ...placeOf(row.place)])
  return [...rows.keys()].sort((a, b) => compare(order[a] ?? [], order[b] ?? [])).map((n) => rows[n] as TouchRow)
}

/** `(page,item)` */
function placeOf(ctid: string): number[] {
  return ctid.slice(1, -1).split(',').map(Number)
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (const [at, one] of a.entries()) if (one !== b[at]) return one - (b[at] as number)
  return 0
}
