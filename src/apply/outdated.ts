import type { AudienceBatch } from '../model.ts'
import type { RegisterDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import type { ReceivingTurn } from './receiving-turn.ts'
import { outdate, readWaiting, type WaitingName, waitingNames } from './waiting-documents.ts'

/** Documents that are looked at in one go. */
const PAGE = 100

/**
 * What waits with a part that central has given to another document since is not how anything stands: applied, it would take the part back, and what central has made of it,
 * which is on its way, would then remove it. Before anything of the batch is applied.
 */
export async function markOutdated(database: RegisterDatabase, turn: ReceivingTurn, { table, documents }: AudienceBatch): Promise<void> {
  if (documents.every(({ records }) => records.length < 2)) return
  const mark = function* (names: readonly WaitingName[]): Work<void> {
    yield* turn.goOn()
    yield* outdate(database, names)
  }
  let parts: ReadonlySet<string> | undefined
  for (let after = ''; ; ) {
    const page = await database.read(() => waitingNames(database, table, ['missing', 'taken', 'other', 'changed'], after, PAGE), { loosely: true })
    if (page.length === 0) return
    parts ??= new Set(documents.flatMap(({ records }) => records.slice(1).map(partName)))
    const given = parts
    const waiting = await database.read(() => readWaiting(database, page))
    const moved = new Set(waiting.filter(({ records }) => records.slice(1).some((one) => given.has(partName(one)))).map(({ recordId }) => recordId))
    for (const { recordId } of documents) moved.delete(recordId)
    const names = page.filter(({ recordId }): boolean => moved.has(recordId))
    if (names.length > 0) await database.write(() => mark(names), { lazily: true })
    if (page.length < PAGE) return
    after = page.at(-1)?.recordId ?? after
  }
}

function partName({ table, recordId }: Pick<WaitingName, 'table' | 'recordId'>): string {
  return JSON.stringify([table, recordId])
}
