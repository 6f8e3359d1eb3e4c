import type { Work } from '../work.ts'
import type { Arrival, Outcome } from './audience-slice.ts'
import type { AudienceSlices, AudienceSlicesOptions } from './audience-slices.ts'
import { FormerDocuments } from './former-documents.ts'
import { dropUnconfirmedKept } from './kept-columns.ts'
import { receivedBehind } from './received-documents.ts'
import { isSamePlace, type Place, readPlace, readPlaces, writePlace } from './subscription-standing.ts'
import { dropUnconfirmed } from './waiting-documents.ts'

/** Documents that are looked at in one go. */
const PAGE = 1_000

/** The end of snapshots: what central had sent before, and the snapshot did not confirm, goes, slice by slice. It may be ended anywhere, and begun again. */
export class SnapshotEnd {
  private readonly options: AudienceSlicesOptions
  private readonly slices: AudienceSlices

  constructor(options: AudienceSlicesOptions, slices: AudienceSlices) {
    this.options = options
    this.slices = slices
  }

  /** All that are at their end, what refers to others before those. */
  async run(tables: readonly string[], signal: AbortSignal, tell: (outcome: Outcome) => void): Promise<void> {
    const { database } = this.options
    const places = await database.read(() => readPlaces(database), { loosely: true })
    for (const table of tables.toReversed()) {
      const place = places.get(table)
      if (place?.state === 'ending') await this.end(place, signal, tell)
    }
  }

  private async end(place: Place, signal: AbortSignal, tell: (outcome: Outcome) => void): Promise<void> {
    const { database, turn } = this.options
    const { table, snapshotNo } = place
    await turn.acquire(signal)
    const isStill = function* (): Work<boolean> {
      return isSamePlace(yield* readPlace(database, table), place)
    }
    if (!(await new FormerDocuments(this.options, place).name(isStill))) return
    for (let after = ''; ; ) {
      const page = await database.read(() => receivedBehind(database, table, after, PAGE), { loosely: true })
      const gone = page.filter((one) => one.snapshotNo < snapshotNo).map(({ recordId }) => arrivalOf(place, recordId))
      if (gone.length > 0 && !(await this.slices.apply(gone, { before: isStill }, signal, tell))) return
      if (page.length < PAGE) break
      after = page.at(-1)?.recordId ?? after
    }
    await database.write(
      function* () {
        yield* turn.goOn()
        if (!(yield* isStill())) return
        yield* dropUnconfirmed(database, table, snapshotNo)
        yield* dropUnconfirmedKept(database, table, snapshotNo)
        yield* writePlace({ ...place, state: 'complete' })
      },
      { lazily: true },
    )
  }
}

/** Published no more. */
function arrivalOf({ table, snapshotNo, shape, keyColumns }: Place, recordId: string): Arrival {
  return { table, recordId, records: [], snapshotNo, shape, keyColumns }
}
