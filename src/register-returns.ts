import { toApplied } from './apply/audience-documents.ts'
import { applyInOrder } from './apply/in-order.ts'
import { mirror } from './apply/mirror.ts'
import { verdictOf } from './apply/quarantine-verdict.ts'
import { StockLevels } from './apply/stock-levels.ts'
import { readBefore } from './capture/received.ts'
import type { Sealer } from './capture/sealer.ts'
import { TillsyncError } from './errors.ts'
import type { RegisterName, SentBack, TakenBack } from './model.ts'
import type { RegisterDatabase } from './ports.ts'
import type { Work } from './work.ts'

/**
 * Enters a document that central sends back into the tables from which it was published, where its key and its parts' are free, whole or not at all. It is sealed as any other, and known
 * again at central by its contents. One that is here already is sealed once more.
 *
 * @throws what is no fault of the document's; retryable
 */
export async function takeBack(database: RegisterDatabase, sealer: Sealer, name: RegisterName, sent: SentBack): Promise<TakenBack> {
  const { id, table, recordId } = sent
  const root = (await sealer.planning.planned()).roots.get(table)
  if (root === undefined) return refused(id, 'ERR_UNKNOWN_TABLE', `\`${table}\` is not published here`)
  try {
    const isThere = await database.write(function* () {
      yield* database.lockReceiving()
      return yield* enter(database, name, sent, function* () {
        const [document] = yield* readBefore(database, root, [recordId], 0)
        return document?.isThere === true
      })
    })
    if (isThere) await sealer.sealAgain([{ table, recordId }])
    else await sealer.seal()
    return { id }
  } catch (thrown) {
    const { code, message } = verdictOf(thrown, database)
    return refused(id, code, message)
  }
}

/** Says whether it is here already, as it was sent. @throws ERR_KEY_TAKEN */
function* enter(database: RegisterDatabase, name: RegisterName, sent: SentBack, isKeyUsed: () => Work<boolean>): Work<boolean> {
  const { table, shape, keyColumns } = sent
  const document = toApplied(sent, shape, keyColumns)
  const handler = mirror()
  const context = { database, origin: { ...name, registerId: 0, epoch: '', epochNo: 0 }, levels: new StockLevels(), late: true }
  if (yield* isKeyUsed()) {
    if (yield* isEqual(database, sent)) return true
    throw taken(table)
  }
  // A late letter takes nothing from anybody: where a part has the key of another's, all of it is left out.
  yield* applyInOrder(database, new Map([[table, [handler]]]), [document], context, (_handler, _documents, work) => work)
  yield* database.mirroring.settle()
  if (!(yield* isKeyUsed())) throw taken(table)
  return false
}

/** Whether all of its records are here as they were sent. */
function* isEqual({ mirroring }: RegisterDatabase, { records }: SentBack): Work<boolean> {
  const targets = yield* mirroring.targets([...new Set(records.map(({ table }) => table))])
  for (const { table, record } of records) {
    const target = targets.get(table)
    if (target === undefined) return false
    const columns = Object.keys(JSON.parse(record) as object).filter((column) => target.columns.some((one) => one.name === column))
    const written = columns.filter((column) => !target.key.includes(column))
    if ((yield* mirroring.differing({ table: target, columns, records: [record], constants: {}, written, rows: 'known' })).length > 0) return false
  }
  return true
}

function taken(table: string): TillsyncError {
  return new TillsyncError('ERR_KEY_TAKEN', `Another document of \`${table}\` has its key by now, or one of its parts'`, {
    hint: 'Enter it again at the till, and withdraw the orphan.',
    context: { table },
  })
}

function refused(id: number, code: string, message: string): TakenBack {
  return { id, refused: { code, message } }
}
