import { randomBytes } from 'node:crypto'
import type { AudienceAnswer, AudienceBatch, AudienceStanding, RegisterName, UnappliedDocument } from '../../src/model.ts'
import { decodeMessage, encodeMessage } from '../../src/transport/codec.ts'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'

/** What a register of the protocol has of a root table: records by table and record id, document by document. */
type Documents = Map<string, readonly string[]>

/** A register that only listens, and keeps what it is told in memory: what central publishes, as it goes over the wire. */
export class Listener {
  readonly name: RegisterName
  /** All bytes that central ever said to it, unpacked. */
  readonly heard: AudienceBatch[] = []
  records = 500
  bytes = 1_000_000
  message = 8_000_000
  unapplied: UnappliedDocument[] = []
  /** How central is reached. */
  fetch: (request: Request) => Promise<Response>
  private readonly token: string
  private readonly tables: Map<string, { standing: AudienceStanding; documents: Documents; confirmed: Set<string> | undefined }>

  constructor(fetch: (request: Request) => Promise<Response>, name: RegisterName, token: string, tables: readonly string[]) {
    this.fetch = fetch
    this.name = { location: name.location, register: name.register }
    this.token = token
    const nothing = (table: string) => ({ table, stream: undefined, entryNo: 0, mark: '' })
    this.tables = new Map(tables.map((table) => [table, { standing: nothing(table), documents: new Map(), confirmed: undefined }]))
  }

  /** The records of a table, each as JSON text, sorted. */
  rows(table: string): string[] {
    return [...this.tables.values()]
      .flatMap(({ documents }) => [...documents.values()].flat())
      .filter((text) => text.startsWith(`${table} `))
      .map((text) => text.slice(table.length + 1))
      .sort()
  }

  standing(table: string): AudienceStanding {
    return this.at(table).standing
  }

  /** As a backup has it, to be given to `restore`. */
  backup(): unknown {
    return structuredClone(this.tables)
  }

  restore(backup: unknown): void {
    for (const [table, state] of structuredClone(backup) as Listener['tables']) this.tables.set(table, state)
  }

  /** One exchange; what is not `kept` was lost on its way. */
  async exchange(kept = true): Promise<AudienceAnswer> {
    const id = randomBytes(6).toString('hex')
    const audiences = {
      standings: [...this.tables.values()].map(({ standing }) => standing),
      records: this.records,
      bytes: this.bytes,
      message: this.message,
      unapplied: this.unapplied,
    }
    const body = await encodeMessage({ from: this.name, id, publish: { epoch: 'listener', head: 0 }, audiences })
    const response = await this.fetch(
      new Request('http://central/sync', { method: 'POST', headers: { authorization: `Bearer ${this.token}`, 'content-type': CONTENT_TYPE }, body }),
    )
    const { published = { batches: [], more: false }, error } = await decodeMessage(new Uint8Array(await response.arrayBuffer()), 8_000_000)
    if (error) throw Object.assign(new Error(error.message), error)
    if (kept) for (const batch of published.batches) this.take(batch)
    return published
  }

  /** Until there is nothing more. Returns the documents that came. */
  async drain(): Promise<number> {
    for (let documents = 0; ; ) {
      const { batches } = await this.exchange()
      if (batches.length === 0) return documents
      documents += batches.reduce((sum, batch) => sum + batch.documents.length, 0)
    }
  }

  private take(batch: AudienceBatch): void {
    this.heard.push(batch)
    const state = this.at(batch.table)
    const { stream, after, through, mark } = batch
    if (after === 0) state.confirmed = new Set()
    else if (state.standing.stream !== stream || state.standing.entryNo !== after)
      throw new Error(`${batch.table}: the batch does not go on from here`)
    for (const { recordId, records } of batch.documents) {
      if (records.length === 0) state.documents.delete(recordId)
      else
        state.documents.set(
          recordId,
          records.map(({ table, record }) => `${table} ${record}`),
        )
      state.confirmed?.add(recordId)
    }
    state.standing = { table: batch.table, stream, entryNo: through, mark }
    if (!batch.isEnd || state.confirmed === undefined) return
    for (const recordId of state.documents.keys()) if (!state.confirmed.has(recordId)) state.documents.delete(recordId)
    state.confirmed = undefined
  }

  private at(table: string) {
    const state = this.tables.get(table)
    if (state === undefined) throw new Error(`${table} was not asked for`)
    return state
  }
}
