import { TillsyncError } from './errors.ts'
import type { OwnTable } from './own-table.ts'
import type { TouchSource } from './ports.ts'
import { insert, query, type Work } from './work.ts'

/** What the numbers in sync_touches mean. A number is never used again. */
export const SOURCES = {
  name: 'sync_sources',
  columns: { source: 'integer', table_name: 'text', refers: 'text' },
  primaryKey: ['source'],
} as const satisfies OwnTable

/** Records of `table` by the columns that a touch holds. */
export interface TouchMeaning {
  readonly table: string
  readonly refers: readonly string[]
}

interface SourceRow {
  readonly source: number
  readonly table_name: string
  readonly refers: string
}

/** The numbers by which touches say what they are of. */
export class TouchSources {
  private readonly qualified: string
  private readonly isThere: () => Work<boolean>
  private readonly read = new Map<number, TouchMeaning>()

  constructor(qualified: string, isThere: () => Work<boolean>) {
    this.qualified = qualified
    this.isThere = isThere
  }

  /** The number of each source. Those that had none get one. */
  *number(sources: readonly TouchSource[]): Work<ReadonlyMap<TouchSource, number>> {
    const { numbers, added } = yield* this.numbersOf(sources)
    yield* insert(SOURCES, added)
    return numbers
  }

  /** The numbers as they are or would be, and the rows that say so and are not there yet. */
  *numbersOf(
    sources: readonly TouchSource[],
  ): Work<{ readonly numbers: ReadonlyMap<TouchSource, number>; readonly added: readonly (readonly unknown[])[] }> {
    const rows = (yield* this.isThere()) ? yield* this.rows() : []
    const known = new Map(rows.map((row) => [`${row.table_name}\n${row.refers}`, row.source]))
    let next = Math.max(0, ...known.values()) + 1
    const numbers = new Map<TouchSource, number>()
    const added: (readonly unknown[])[] = []
    for (const source of sources) {
      const refers = JSON.stringify(source.refers)
      const name = `${source.table}\n${refers}`
      if (!known.has(name)) {
        known.set(name, next)
        added.push([next++, source.table, refers])
      }
      numbers.set(source, known.get(name) as number)
    }
    return { numbers, added }
  }

  /** What is known of a number without asking. */
  known(source: number): TouchMeaning | undefined {
    return this.read.get(source)
  }

  /** @throws ERR_NOT_INSTALLED where nothing explains the number */
  *meaningOf(source: number): Work<TouchMeaning> {
    const row = (yield* this.rows()).find((row) => row.source === source)
    if (row !== undefined) {
      const meaning = { table: row.table_name, refers: JSON.parse(row.refers) as string[] }
      this.read.set(source, meaning)
      return meaning
    }
    throw new TillsyncError('ERR_NOT_INSTALLED', `sync_touches holds source ${source}, which sync_sources does not explain`, {
      hint: 'Was sync_sources changed by hand? Run install(), then reseal the tables.',
      context: { source },
    })
  }

  forget(): void {
    this.read.clear()
  }

  private rows(): Work<readonly SourceRow[]> {
    return query<SourceRow>({ sql: `SELECT source, table_name, refers FROM ${this.qualified}`, parameters: [] })
  }
}
