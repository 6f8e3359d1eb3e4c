import { TillsyncError } from '../errors.ts'
import type { Notice, Value } from '../model.ts'
import { checkName, known, readLimit, unlessGiven, whole } from '../options.ts'
import type { Database } from '../ports.ts'
import { decodeRecord, decodeRecordId } from '../record.ts'
import { erase, query } from '../work.ts'
import { NOTICES } from './notice-tables.ts'
import type { NoticeRow } from './notices.ts'

/** What is to be told, until it is acknowledged. */
export interface Notices {
  /** The oldest first, after an id. `limit` is 1,000 by default, and at most. @throws ERR_OPTION, ERR_UNKNOWN_TABLE where a table is meant that is not subscribed to */
  list(which?: { readonly table?: string; readonly after?: number; readonly limit?: number }): Promise<readonly Notice[]>
  /**
   * The operator has been told. A notice that changed since it was listed has another id, and stays; ids that are not there count for nothing. All or nothing.
   *
   * @throws ERR_OPTION
   */
  acknowledge(ids: readonly number[]): Promise<{ readonly acknowledged: number }>
}

const MOST = 1_000
/** Ids that are looked for in one statement. */
const AT_ONCE = 500

export class NoticeBook implements Notices {
  private readonly database: Database
  private readonly ready: () => Promise<void>
  private readonly refresh: (rows: readonly NoticeRow[]) => Promise<boolean>
  private readonly isKnown: (table: string) => boolean

  /**
   * @param refresh puts right notices that say something else than what is; says whether any did
   * @param isKnown whether there may be notices of a table
   */
  constructor(
    database: Database,
    ready: () => Promise<void>,
    refresh: (rows: readonly NoticeRow[]) => Promise<boolean> = async () => false,
    isKnown: (table: string) => boolean = () => true,
  ) {
    this.database = database
    this.ready = ready
    this.refresh = refresh
    this.isKnown = isKnown
  }

  async list(which: { readonly table?: string; readonly after?: number; readonly limit?: number } = {}): Promise<readonly Notice[]> {
    known('which', which, ['table', 'after', 'limit'])
    const { table } = which
    if (table !== undefined) checkName('table', table)
    const after = whole('after', unlessGiven(which.after, 0), 0)
    const limit = readLimit(which.limit, MOST, MOST)
    await this.ready()
    let select = this.database.build.selectFrom(NOTICES.name).selectAll().where('notice_id', '>', after)
    if (table !== undefined) select = select.where('table_name', '=', table)
    const statement = select.orderBy('notice_id').limit(limit).compile()
    const read = () => this.database.read(() => query<NoticeRow>(statement))
    const rows = await read()
    // Of a table that was subscribed to once some may stand yet.
    if (rows.length === 0 && table !== undefined && !this.isKnown(table)) {
      throw new TillsyncError('ERR_UNKNOWN_TABLE', `\`${table}\` is not subscribed to, so there are no notices of it`, {
        hint: 'Notices are of tables in `subscribe` with `notify`, by their names in this database.',
        context: { table },
      })
    }
    return ((await this.refresh(rows)) ? await read() : rows).map(toNotice)
  }

  async acknowledge(ids: readonly number[]): Promise<{ readonly acknowledged: number }> {
    if (!Array.isArray(ids) || ids.some((id) => !Number.isSafeInteger(id) || id < 1)) {
      throw new TillsyncError('ERR_OPTION', 'Expected the ids of notices', { hint: 'acknowledge(notices.map(({ id }) => id))' })
    }
    await this.ready()
    const { database } = this
    const all = [...new Set(ids)]
    return database.write(function* () {
      let acknowledged = 0
      for (let from = 0; from < all.length; from += AT_ONCE) {
        const some = all.slice(from, from + AT_ONCE)
        const there = yield* query<NoticeRow>(database.build.selectFrom(NOTICES.name).selectAll().where('notice_id', 'in', some).compile())
        yield* erase(
          NOTICES,
          NOTICES.primaryKey,
          there.map((row) => [row.table_name, row.record_id, row.column_name]),
        )
        acknowledged += there.length
      }
      return { acknowledged }
    })
  }
}

export function toNotice(row: NoticeRow): Notice {
  const isWhole = row.column_name === ''
  const value = (text: string | null) =>
    text === null ? null : isWhole ? valuesOf(JSON.parse(text) as Record<string, string>) : (valuesOf({ value: text }).value as Value)
  return {
    id: row.notice_id,
    table: row.table_name,
    recordId: decodeRecordId(row.record_id),
    kind: row.kind,
    column: isWhole ? undefined : row.column_name,
    old: value(row.old),
    new: value(row.new),
    at: row.noted_at,
  }
}

/** Values from their JSON texts. */
function valuesOf(texts: Readonly<Record<string, string>>): Record<string, Value> {
  return decodeRecord(
    `{${Object.entries(texts)
      .map(([name, text]) => `${JSON.stringify(name)}:${text}`)
      .join(',')}}`,
  )
}
