import { TillsyncError } from '../errors.ts'
import type { TableName } from '../model.ts'
import { checkName, checkNames, known, readLimit } from '../options.ts'
import type { ApplyingDatabase } from '../ports.ts'
import type { Work } from '../work.ts'
import { readTime } from './archive-book.ts'
import { appliesRemovals, type HandlersByTable } from './handler.ts'
import { type ArchivedDocument, toArchivedDocument } from './trace.ts'
import { type Facts, factsOf, placesOf } from './trace-facts.ts'
import { END, knownTables, type Place, receivedOf, type SearchedRegister, searchedRegisters, searchWindow } from './trace-search.ts'
import type { Handled } from './trace-stages.ts'
import { isBefore, MOST_VERSIONS, type StagedDocument, stagedIn, type VersionRow, versionsWindow } from './trace-versions.ts'
import { holds, isKeyOnly, memberOf, readWhich, recordIdsOf, type Wanted } from './trace-which.ts'

/** Which documents: by values of columns of their root records, or a list of such. */
export type WhichTraced<Sent, T extends TableName<Sent>> = Partial<Sent[T]> | readonly Partial<Sent[T]>[]

export interface TraceOptions {
  readonly location?: string
  readonly register?: string
  /** Only of what was received at or after: a Date, or ISO 8601 with its offset. */
  readonly since?: Date | string
  /** Default 100; at most 100. */
  readonly limit?: number
  readonly signal?: AbortSignal
}

const MOST = 100

/** One question: what is looked for, and what came to light about it. */
interface Search {
  readonly table: string
  readonly wanted: Wanted
  readonly since: string | undefined
  readonly limit: number
  readonly signal: AbortSignal | undefined
  /** Columns that no record was seen to have. */
  readonly unseen: Set<string>
  /** Whether any record of the table was looked at. */
  any: boolean
}

/** Says what became of documents. */
export class TraceBook {
  private readonly database: ApplyingDatabase
  private readonly handlers: HandlersByTable
  private readonly ready: () => Promise<void>

  constructor(database: ApplyingDatabase, handlers: HandlersByTable, ready: () => Promise<void>) {
    this.database = database
    this.handlers = handlers
    this.ready = ready
  }

  async trace(table: string, which: unknown, options: TraceOptions = {}): Promise<readonly ArchivedDocument[]> {
    checkName('table', table)
    const wanted = readWhich(table, which)
    known('options', options, ['location', 'register', 'since', 'limit', 'signal'])
    const { location, register, signal } = options
    checkNames({ location, register })
    const since = readTime('since', options.since)
    const limit = readLimit(options.limit, MOST, MOST)
    await this.ready()
    const search: Search = { table, wanted, since, limit, signal, any: false, unseen: new Set(wanted.flat().map(({ name }) => name)) }
    const registers = await this.read(search, () => searchedRegisters(this.database, table, { location, register }))
    if (registers.length === 0 && location !== undefined && register !== undefined) throw unknownRegister(location, register)
    const staged = await this.read(search, () =>
      stagedIn(
        this.database,
        registers.map(({ registerId }) => registerId),
        table,
      ),
    )
    await this.requireTable(search, registers, staged)
    const documents: ArchivedDocument[] = []
    for (const one of registers) {
      if (documents.length >= limit) break
      documents.push(...(await this.ofRegister(search, one, staged, limit - documents.length)))
    }
    if (documents.length === 0) refuseUnseen(search)
    return documents
  }

  private async requireTable(search: Search, registers: readonly SearchedRegister[], staged: readonly StagedDocument[]): Promise<void> {
    const { table } = search
    if (this.handlers.has(table) || staged.length > 0 || registers.some(({ key, parked }) => key !== undefined || parked.length > 0)) return
    const tables = await this.read(search, () => knownTables(this.database))
    if (tables.includes(table)) return
    throw new TillsyncError('ERR_UNKNOWN_TABLE', `No register has sent documents of \`${table}\`, and no handler takes any`, {
      hint: `Documents are known by their root tables: ${[...new Set([...this.handlers.keys(), ...tables])].join(', ')}.`,
      context: { table },
    })
  }

  private async ofRegister(
    search: Search,
    register: SearchedRegister,
    staged: readonly StagedDocument[],
    limit: number,
  ): Promise<readonly ArchivedDocument[]> {
    const { table } = search
    const own = staged.filter(({ registerId }) => registerId === register.registerId)
    const { recordIds, sure } = await this.find(search, register, own, limit)
    const facts = new Map<string, Facts>()
    for (const recordId of recordIds) facts.set(recordId, await this.read(search, () => factsOf(this.database, register.registerId, table, recordId)))
    const versions = await this.versions(search, register, facts, !sure)
    return recordIds.flatMap((recordId) => {
      const rows = versions.get(recordId) ?? []
      const coming = own.find((one) => one.recordId === recordId)
      if (!sure && !this.isMeant(search, rows, coming)) return []
      if (search.since !== undefined && rows.length > 0 && !rows.some(({ receivedAt }) => receivedAt >= (search.since as string))) return []
      const cut = rows.length >= MOST_VERSIONS
      const traced = { register, table, recordId, facts: facts.get(recordId) as Facts, versions: rows, cut, staged: coming }
      return toArchivedDocument(traced, this.handledOf(table)) ?? []
    })
  }

  private handledOf(table: string): Handled {
    return { any: (this.handlers.get(table) ?? []).length > 0, removals: appliesRemovals(this.handlers, table) ? 'apply' : 'ignore' }
  }

  /** Which documents of a register are meant; `sure`: nothing but their keys was asked for, or what they hold was looked at. */
  private async find(
    search: Search,
    register: SearchedRegister,
    staged: readonly StagedDocument[],
    limit: number,
  ): Promise<{ readonly recordIds: readonly string[]; readonly sure: boolean }> {
    const { wanted, table } = search
    const { key, registerId } = register
    const ids = key && recordIdsOf(wanted, key)
    const coming = staged.filter(({ recordId, record }) => (ids === undefined ? record !== null && holds(record, wanted) : ids.includes(recordId)))
    const recordIds = new Set(coming.map(({ recordId }) => recordId))
    if (ids !== undefined) {
      for (const id of await this.read(search, () => receivedOf(this.database, registerId, table, ids))) recordIds.add(id)
      for (const id of register.parked) if (ids.includes(id)) recordIds.add(id)
    } else if (key !== undefined) {
      await this.searchArchive(search, registerId, recordIds, limit)
    }
    return { recordIds: [...recordIds].slice(0, limit), sure: ids === undefined || isKeyOnly(wanted, key as readonly string[]) }
  }

  /** From the latest entry to the first, a few at a time. */
  private async searchArchive(search: Search, registerId: number, found: Set<string>, limit: number): Promise<void> {
    for (let place: Place | undefined = END; place !== undefined && found.size < limit; ) {
      const from: Place = place
      const window = await this.read(search, () => searchWindow(this.database, registerId, search, from))
      for (const recordId of window.found) found.add(recordId)
      for (const name of window.columns) search.unseen.delete(name)
      search.any ||= window.any
      place = window.next
    }
  }

  /** The versions of documents, oldest first: between the first place and the last that is known of any of them, read once. */
  private async versions(
    search: Search,
    { registerId }: SearchedRegister,
    facts: ReadonlyMap<string, Facts>,
    records: boolean,
  ): Promise<ReadonlyMap<string, readonly VersionRow[]>> {
    const versions = new Map<string, VersionRow[]>([...facts.keys()].map((recordId) => [recordId, []]))
    const { first, last } = boundsOf([...facts.values()])
    for (let place: Place | undefined = last; place !== undefined && !isBefore(place, first); ) {
      const left = [...versions].filter(([, rows]) => rows.length < MOST_VERSIONS).map(([recordId]) => recordId)
      if (left.length === 0) break
      const from: Place = place
      const window = await this.read(search, () => versionsWindow(this.database, registerId, search.table, left, from, records))
      for (const row of window.versions) {
        const rows = versions.get(row.recordId)
        if (rows !== undefined && rows.length < MOST_VERSIONS) rows.unshift(row)
      }
      place = window.next
    }
    return versions
  }

  /** Whether one of the versions, of a document whose key is meant, holds the rest of what is wanted. */
  private isMeant(search: Search, rows: readonly VersionRow[], staged: StagedDocument | undefined): boolean {
    const records = [...rows.map(({ record }) => record), staged?.record ?? null].filter((record) => record !== null)
    search.any ||= records.length > 0
    for (const name of [...search.unseen]) if (records.some((record) => record.includes(memberOf(name)))) search.unseen.delete(name)
    return records.length === 0 || records.some((record) => holds(record, search.wanted))
  }

  private read<T>({ signal }: Pick<Search, 'signal'>, work: () => Work<T>): Promise<T> {
    if (signal?.aborted) throw new TillsyncError('ERR_ABORTED', 'Tracing was aborted', { cause: signal.reason })
    return this.database.read(work, { signal })
  }
}

/** From where to where versions of these documents stand. */
function boundsOf(facts: readonly Facts[]): { readonly first: Place; readonly last: Place | undefined } {
  const places = facts.flatMap(placesOf)
  // What nothing is written down of, or not of all of its lives, may stand anywhere.
  const isVague = facts.some(({ known, over }) => known === undefined || known.lives > over.length + (known.removed ? 0 : 1))
  const isLost = facts.some(({ known }) => known === undefined)
  const [first, last] = [places.reduce(earlier, END), places.reduce(later, START)]
  return { first: isVague ? START : first, last: isLost ? END : places.length === 0 ? undefined : last }
}

const START: Place = { epochNo: 0, entryNo: 0 }

function earlier(a: Place, b: Place): Place {
  return isBefore(b, a) ? b : a
}

function later(a: Place, b: Place): Place {
  return isBefore(a, b) ? b : a
}

/** A column that no record has is a mistake, not a document that never came. */
function refuseUnseen({ table, unseen, any }: Search): void {
  const [column] = unseen
  if (!any || column === undefined) return
  throw new TillsyncError('ERR_UNKNOWN_COLUMN', `No archived record of \`${table}\` has a column \`${column}\``, {
    hint: 'Documents are found by the columns of their root records, as the registers send them.',
    context: { table, column },
  })
}

function unknownRegister(location: string, register: string): TillsyncError {
  return new TillsyncError('ERR_REGISTER', `Register ${register} at ${location} is not known`, {
    hint: 'registers.list() shows who is.',
    context: { location, register },
  })
}
