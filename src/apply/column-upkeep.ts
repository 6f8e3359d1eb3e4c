import { TillsyncError } from '../errors.ts'
import type { DocumentName, UnappliedDocument } from '../model.ts'
import type { Work } from '../work.ts'
import type { AudienceSlicesOptions } from './audience-slices.ts'
import { type Kept, putRight, settleKept, touchedKept } from './kept-columns.ts'
import { verdictOf } from './quarantine-verdict.ts'

/** Documents that are looked at in one transaction. */
const PAGE = 100
/** How often it is tried where the host's schema is changed at the same time. */
const TRIES = 5

/** Puts right what the host has made of columns that only central writes. */
export class ColumnUpkeep {
  private readonly options: Pick<AudienceSlicesOptions, 'database' | 'publishing'>

  constructor(options: Pick<AudienceSlicesOptions, 'database' | 'publishing'>) {
    this.options = options
  }

  /** All that was changed, of these tables of central's, each once: what the host changes again at once has its turn the next time. Answers what the tables here do not take. */
  async run(tables: readonly string[], signal: AbortSignal): Promise<readonly UnappliedDocument[]> {
    const { database, publishing } = this.options
    const refused: UnappliedDocument[] = []
    if (publishing === undefined) return refused
    let after: DocumentName | undefined
    const isAny = async () => (await database.read(() => touchedKept(database, tables, after, 1), { loosely: true })).length > 0
    for (let most = PAGE; await isAny(); ) {
      if (signal.aborted) throw new TillsyncError('ERR_STOPPED', 'The register is stopped', { retryable: true })
      const tried: DocumentName[] = []
      try {
        await this.step(tables, after, most, tried, signal)
        most = PAGE
        after = tried.at(-1) ?? after
      } catch (thrown) {
        const { code, message } = verdictOf(thrown, database)
        const [first] = tried
        if (first === undefined) throw thrown
        if (tried.length > 1) most = Math.ceil(tried.length / 2)
        else {
          await database.write(() => settleKept(database, tried, true), { lazily: true })
          refused.push({ ...first, code, message })
          after = first
        }
      }
    }
    return refused
  }

  private async step(
    tables: readonly string[],
    after: DocumentName | undefined,
    most: number,
    tried: DocumentName[],
    signal: AbortSignal,
  ): Promise<void> {
    const { database, publishing } = this.options
    for (let tries = 0; tries < TRIES; tries++) {
      const published = await publishing?.published(tries > 0)
      const isDone = await database.write(
        function* (): Work<boolean> {
          if (published === undefined || !(yield* published.isCurrent())) return false
          const page: readonly Kept[] = yield* touchedKept(database, tables, after, most)
          tried.splice(0, tried.length, ...page.map(({ table, recordId }) => ({ table, recordId })))
          yield* putRight(database, published, page)
          yield* settleKept(database, page, false)
          return true
        },
        { signal, alone: true },
      )
      if (isDone) return
    }
    throw new TillsyncError('ERR_BUSY', 'The schema is changed without end', { retryable: true, hint: 'It is tried again with the next exchange.' })
  }
}
