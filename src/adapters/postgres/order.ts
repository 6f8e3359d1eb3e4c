/** Equal touches as they are read from sync_touches: the first of them, and how many there are. */
export interface TouchRow extends Seen {
  readonly xid: number
  /** What its transaction saw of others. */
  readonly seen: string
  readonly touches: number
  /** The command of its transaction that wrote it. */
  readonly command: number
  /** Where it lies, as a ctid. */
  readonly place: string
  readonly source: number
  readonly kind: number
  readonly key: string | null
}

/** By which snapshot it was read, and by which transaction, where that had a number then. */
export interface Seen {
  readonly snapshot: string
  readonly own: string | null
}

/** Where a snapshot ends: it saw nothing of transactions from there on. A snapshot is `xmin:xmax:xip,xip…`, see https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-PG-SNAPSHOT */
export function endOf(snapshot: string): number {
  return Number(snapshot.split(':', 2)[1])
}

interface Position {
  readonly end: number
  /** How many were still running, itself among them. */
  readonly running: number
}

/**
 * A transaction that saw another's work has a later snapshot: its end is higher, or it is the same and fewer were still
 * running. Within a transaction the order of its commands.
 */
export function inOrder(rows: readonly TouchRow[]): readonly TouchRow[] {
  const positions = new Map<number, Position>()
  let before: TouchRow | undefined
  for (const row of rows) {
    // Rows of one statement follow each other, and see the same.
    if (row.xid !== before?.xid || row.seen !== before.seen) note(positions, row)
    before = row
  }
  return rows
    .map((row) => ({ row, position: positions.get(row.xid) as Position, place: placeOf(row.place) }))
    .sort((a, b) => {
      const transactions = compare(a.position, b.position) || a.row.xid - b.row.xid
      return transactions || a.row.command - b.row.command || a.place - b.place
    })
    .map(({ row }) => row)
}

function note(positions: Map<number, Position>, { xid, seen }: TouchRow): void {
  const [, end = '', others = ''] = seen.split(':')
  const position = { end: Number(end), running: (others === '' ? 0 : others.split(',').length) + (xid < Number(end) ? 1 : 0) }
  const known = positions.get(xid)
  if (known === undefined || compare(known, position) < 0) positions.set(xid, position)
}

function compare(a: Position, b: Position): number {
  return a.end - b.end || b.running - a.running
}

/** `(page,item)` as a number in the same order; a page holds less than 65,536 items. */
function placeOf(ctid: string): number {
  const comma = ctid.indexOf(',')
  return Number(ctid.slice(1, comma)) * 65_536 + Number(ctid.slice(comma + 1, -1))
}
