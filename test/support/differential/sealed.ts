import { createHash } from 'node:crypto'
import { HashedLines } from '../../../src/apply/compare-hash.ts'
import { answerComparison } from '../../../src/capture/compare.ts'
import { readEpoch } from '../../../src/capture/history.ts'
import type { Sealer } from '../../../src/capture/sealer.ts'
import type { Register } from '../../../src/index.ts'
import type { CapturingDatabase } from '../../../src/ports.ts'
import { Break } from './break.ts'
import type { EntryRow } from './groups.ts'

/** What a register says that it has published of a table is what head office computes from the entries that it has sealed, whatever columns there were then. */
export async function checkSealed(till: Register, rows: readonly EntryRow[], table: string): Promise<void> {
  const { database, sealer } = till as unknown as { readonly database: CapturingDatabase; readonly sealer: Sealer }
  const epoch = (await database.read(() => readEpoch(database))) as string
  const versions = latestOf(rows, table)
  let after = ''
  for (let through: string | undefined = ''; through !== undefined; after = through ?? after) {
    const question = { id: 'x', table, list: true, ranges: [{ after, through: undefined }] }
    const answer = await answerComparison(database, await sealer.planning.kept(), epoch, question, { bytes: 1_000_000_000, both: false })
    // Another collector may just have planned anew.
    if (answer === undefined) return
    if (answer.refused !== undefined) throw new Break('compare', `${table} is refused: ${answer.refused}`)
    const lines = new HashedLines(answer.tables)
    for (const { recordId, hash } of answer.parts.flatMap(({ documents }) => documents ?? [])) {
      const version = versions.get(recordId)
      const own = createHash('sha256')
      const isWhole = version?.every(({ operation, table, recordId, record }) =>
        lines.add(own, { operation, table_name: table, record_id: recordId, record }),
      )
      if (!isWhole || own.digest('hex') !== hash)
        throw new Break('compare', `${table}${recordId} was published otherwise than its entries say: ${JSON.stringify(version)}`)
      versions.delete(recordId)
    }
    through = answer.parts.at(-1)?.through
  }
  if (versions.size > 0) throw new Break('compare', `${table}${[...versions.keys()]} stands in the entries only`)
}

function latestOf(rows: readonly EntryRow[], table: string): Map<string, EntryRow[]> {
  const versions = new Map<string, EntryRow[]>()
  for (const row of rows) {
    if (!row.document.startsWith(`[${JSON.stringify(table)},`) || row.operation === 'baseline') continue
    const recordId = row.document.slice(JSON.stringify(table).length + 2, -1)
    if (row.operation === 'remove') versions.delete(recordId)
    else if (row.table === table && row.recordId === recordId) versions.set(recordId, [row])
    else versions.get(recordId)?.push(row)
  }
  return versions
}
