import type { Audit, AuditFinding, Reconciliation } from '../../src/index.ts'

/** What an audit has found, shortly: `ENTRIES_MISSING 9…12`, `NUMBER_TWICE R-5 [8] present, [9] present`. */
export function found(audit: Audit): string[] {
  return audit.registers.flatMap(({ findings }) => findings.map(shown))
}

export function shown(finding: AuditFinding): string {
  const range = (from: number | bigint, through: number | bigint) => (from === through ? `${from}` : `${from}…${through}`)
  switch (finding.code) {
    case 'ENTRIES_MISSING':
    case 'ENTRIES_UNKNOWN':
    case 'ENTRIES_SKIPPED':
      return `${finding.code} ${range(finding.from, finding.through)}`
    case 'DIGEST':
      return `DIGEST ${finding.after}…${finding.through}`
    case 'CLONED':
      return 'CLONED'
    case 'NUMBERS_MISSING':
      return `NUMBERS_MISSING ${finding.prefix}${range(finding.from, finding.through)}`
    case 'NUMBER_TWICE':
      return `NUMBER_TWICE ${finding.prefix}${finding.from} ${finding.documents.map(({ recordId, state }) => `${recordId} ${state}`).join(', ')}`
    default:
      return `${finding.code} ${finding.table} ${finding.recordId}`
  }
}

/** What a reconciliation has found, shortly: `posted receipts [3] stock_movements: A -2 / -3`. */
export function differing({ differences }: Reconciliation): string[] {
  return differences.map(({ why, table, recordId, ledger, waits, lines }) => {
    const shownLines = lines.map(({ dimension, wanted, found }) => `${dimension.item ?? dimension.closingNo} ${wanted.quantity} / ${found.quantity}`)
    return (
      [`${why} ${table} ${recordId}`, ...(ledger ? [ledger] : []), ...(waits ? [waits.why] : [])].join(' ') +
      (lines.length > 0 ? `: ${shownLines.join(', ')}` : '')
    )
  })
}
