import type { ListedEntry, Register } from '../../src/index.ts'

/** What head office has: the entries that it was sent, whatever became of them at the till. */
export class Copy {
  private readonly documents = new Map<string, ListedEntry[]>()
  private after = 0
  private root = ''

  async read(replica: Register, anew = false): Promise<void> {
    if (anew) this.after = 0
    for (;;) {
      const entries = await replica.entries({ after: this.after, limit: 1_000 })
      for (const entry of entries) this.add(entry)
      if (entries.length === 0) return
    }
  }

  private add(entry: ListedEntry): void {
    // Tables of parts are called lines in all tests, and no root is.
    if (!entry.table.endsWith('_lines')) {
      this.root = JSON.stringify([entry.table, ...entry.recordId])
      this.documents.set(this.root, [])
    }
    if (entry.operation === 'remove') this.documents.delete(this.root)
    else this.documents.get(this.root)?.push(entry)
    this.after = entry.entryNo
  }

  /** All records. */
  records(): unknown[] {
    return [...this.documents.values()].flat().map(({ record }) => record)
  }

  /** The records of receipts and of their lines; only of documents that stand there, where `standing` names them. */
  contents(standing?: ReadonlySet<string>): unknown[][] {
    const all = [...this.documents.values()].filter(([root]) => standing?.has(String(root?.recordId)) ?? true).flat()
    const of = (table: string) => all.filter((entry) => entry.table === table).map((entry) => entry.record)
    return [of('receipts'), of('receipt_lines')].map((rows) => rows.sort((a, b) => Number(a?.id) - Number(b?.id)))
  }
}

/** Sealed, and all reseals that were asked for done. */
export async function settled(replica: Register): Promise<void> {
  await replica.seal()
}
