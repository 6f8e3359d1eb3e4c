/** Numbers of a series, one after another, both ends included. */
export interface NumberRange {
  readonly table: string
  readonly column: string
  /** The series: values of the columns of `by`, as text. */
  readonly by: Readonly<Record<string, string | null>>
  /** What stands before the digits; empty where the column holds numbers. */
  readonly prefix: string
  /** Beyond 2^53 bigint. */
  readonly from: number | bigint
  readonly through: number | bigint
}

/** A document that has a number. Its record id is JSON text. */
export interface NumberedDocument {
  readonly recordId: string
  /** The first of its entries, in this epoch. */
  readonly epoch: string
  readonly entryNo: number
  /** 'removed': the till has deleted it, or it left the filter; otherwise as `orphans.list()` has it. */
  readonly state: 'present' | 'removed' | 'orphaned' | 'former'
}

/**
 * What an audit has found. Entries are named by the epoch in which they were sealed, and by their numbers; record ids are JSON text.
 *
 * - `ENTRIES_MISSING`: they were received, and are in the archive no more; nobody pruned them.
 * - `ENTRIES_UNKNOWN`: they are in the archive, where nobody sent any.
 * - `ENTRIES_SKIPPED`: they never came. The register had pruned them, after `forgetAfterMs` or because central had lost more than it keeps, and has sealed everything anew.
 * - `DIGEST`: the entries between two points, or the points, are not what the register has sent.
 * - `CLONED`: two copies of the register's database speak, and nothing is taken until one is chosen.
 * - `ORPHANED`: central has the document and its register has lost it. It stays posted.
 * - `WANTED`: the register has lost the version that is posted, and was asked for the one that it has.
 * - `QUARANTINED`: its latest version could not be applied, and waits.
 * - `PARKED`: the register can't read it, as it last said; of more than 200 only so many.
 * - `NUMBERS_MISSING`: no document has these numbers, and none declares them void.
 * - `NUMBER_TWICE`: several documents have it; at most 20 are named.
 * - `NUMBER_UNREADABLE`: the document's column holds no whole number and no text that ends in digits.
 */
export type AuditFinding =
  | {
      readonly code: 'ENTRIES_MISSING' | 'ENTRIES_UNKNOWN' | 'ENTRIES_SKIPPED'
      readonly epoch: string
      readonly from: number
      readonly through: number
    }
  | { readonly code: 'DIGEST'; readonly epoch: string; readonly after: number; readonly through: number }
  | { readonly code: 'CLONED' }
  | { readonly code: 'ORPHANED' | 'QUARANTINED'; readonly id: number; readonly table: string; readonly recordId: string }
  | { readonly code: 'WANTED' | 'PARKED'; readonly table: string; readonly recordId: string }
  | ({ readonly code: 'NUMBERS_MISSING' } & NumberRange)
  | ({ readonly code: 'NUMBER_TWICE'; readonly documents: readonly NumberedDocument[] } & NumberRange)
  | ({ readonly code: 'NUMBER_UNREADABLE'; readonly table: string; readonly column: string } & NumberedDocument)

export type AuditCode = AuditFinding['code']

/** How many there are of each code; those that there are none of are not in it. */
export type AuditCounts = Partial<Readonly<Record<AuditCode, number>>>

/** So many findings of each code are listed; all are counted. */
export const MOST_FINDINGS = 1_000

/** Findings of one register. */
export class Findings {
  readonly listed: AuditFinding[] = []
  private readonly totals = new Map<AuditCode, number>()

  add(finding: AuditFinding): void {
    this.addAll([finding], { [finding.code]: 1 })
  }

  /** @param counts how many there are of each code, named or not */
  addAll(findings: readonly AuditFinding[], counts: AuditCounts): void {
    const kept = Map.groupBy(this.listed, ({ code }) => code)
    for (const [code, all] of Map.groupBy(findings, (finding) => finding.code))
      this.listed.push(...all.slice(0, Math.max(0, MOST_FINDINGS - (kept.get(code)?.length ?? 0))))
    for (const [code, count] of Object.entries(counts) as [AuditCode, number][])
      if (count > 0) this.totals.set(code, count + (this.totals.get(code) ?? 0))
  }

  get counts(): AuditCounts {
    return Object.fromEntries(this.totals)
  }
}

/** Numbers that follow each other are told as one range. */
export class Ranges {
  private readonly tell: (from: number, through: number) => void
  private last: { readonly from: number; readonly through: number } | undefined

  constructor(tell: (from: number, through: number) => void) {
    this.tell = tell
  }

  add(from: number, through: number): void {
    if (this.last?.through === from - 1) this.last = { from: this.last.from, through }
    else {
      this.end()
      this.last = { from, through }
    }
  }

  end(): void {
    if (this.last !== undefined) this.tell(this.last.from, this.last.through)
    this.last = undefined
  }
}
