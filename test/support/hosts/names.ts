import type { Random } from '../random.ts'

/** Names that a host may well have, and that whoever builds SQL or reads it can stumble over. */
const ODD = [
  'order',
  'Kassen Bons',
  'Größe',
  'a"b',
  "it's",
  'x as y',
  'a.b',
  'SELECT',
  'id desc',
  '[x]',
  '`tick`',
  '%s $1 ?',
  'when then',
  'a where (b',
  ') x',
  'end; --',
  '\\',
  '{}',
  'constructor',
  '1st',
  'NEW',
  'Old',
  'kind',
  'source',
  'k1',
  'key',
  'rowid',
  '/*',
  'touch',
]
const PLAIN = [
  'receipts',
  'receipt_lines',
  'tenders',
  'items',
  'orders',
  'closings',
  'total',
  'status_text',
  'note',
  'amount',
  'line_no',
  'code',
  'n',
  'm',
  'extra',
]

/** Names, each unique without case among those it has given. */
export class Names {
  private readonly taken: Set<string>
  private readonly random: Random

  constructor(random: Random, taken: Set<string> = new Set()) {
    this.random = random
    this.taken = taken
  }

  next(oddness: number): string {
    const base = this.random.pick(this.random.chance(oddness) ? ODD : PLAIN)
    for (let n = 0; ; n++) {
      const name = n === 0 ? base : `${base} ${n}`
      if (this.taken.has(name.toLowerCase())) continue
      this.taken.add(name.toLowerCase())
      return name
    }
  }
}
