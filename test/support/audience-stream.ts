import { randomBytes } from 'node:crypto'
import type { Register } from '../../src/index.ts'
import type { AudienceBatch, AudienceDocument, AudienceRecord, AudienceStanding, PartShape } from '../../src/model.ts'
import type { AudienceSubscriber } from '../../src/ports.ts'
import type { RegisterReplica } from '../../src/register.ts'

/** A row as JSON has it; `raw` stands in the record as it is, for what JavaScript does not write. */
export type StreamRow = Readonly<Record<string, unknown>>

/** What is sent of a document: its row, and the rows of its parts by table. */
export interface StreamDocument {
  readonly row: StreamRow
  readonly parts?: Readonly<Record<string, readonly StreamRow[]>>
}

/** A text that stands in a record as it is. */
export class Raw {
  readonly text: string

  constructor(text: string) {
    this.text = text
  }
}

/** What central publishes of one root table, made by hand: a document stands in it once, at its last change. */
export class AudienceStream {
  readonly table: string
  readonly keyColumns: readonly string[]
  /** Other rules of central's make another of it, in the same history. */
  shape: readonly PartShape[]
  /** Of parts that may move from one document to another, by table. */
  private readonly partKeys: Readonly<Record<string, readonly string[]>>
  private stream = name()
  private head = 0
  private readonly marks = new Map<number, string>()
  private readonly documents = new Map<string, { readonly entryNo: number; readonly document: StreamDocument | undefined }>()

  constructor(
    table: string,
    keyColumns: readonly string[],
    shape: readonly PartShape[] = [],
    partKeys: Readonly<Record<string, readonly string[]>> = {},
  ) {
    this.table = table
    this.keyColumns = keyColumns
    this.shape = shape
    this.partKeys = partKeys
  }

  put(...documents: readonly (StreamDocument | StreamRow)[]): this {
    for (const one of documents) {
      const document = ('row' in one && typeof one.row === 'object' ? one : { row: one }) as StreamDocument
      this.documents.set(this.idOf(document.row), { entryNo: ++this.head, document })
    }
    return this
  }

  remove(...ids: readonly (readonly unknown[])[]): this {
    for (const id of ids) this.documents.set(JSON.stringify(id), { entryNo: ++this.head, document: undefined })
    return this
  }

  /** Another history: whoever stands in the former one begins anew. */
  renew(): this {
    this.stream = name()
    return this
  }

  /** All that is published now. */
  get published(): readonly StreamDocument[] {
    return [...this.documents.values()].flatMap(({ document }) => document ?? [])
  }

  /** What comes behind a standing: all of it, or documents up to a number. */
  next(standing: Pick<AudienceStanding, 'stream' | 'entryNo'>, most = Number.POSITIVE_INFINITY): AudienceBatch {
    const after = standing.stream === this.stream ? standing.entryNo : 0
    const behind = [...this.documents]
      .filter(([, { entryNo, document }]) => entryNo > after && !(after === 0 && document === undefined))
      .toSorted(([, a], [, b]) => a.entryNo - b.entryNo)
    const some = behind.slice(0, most)
    const isEnd = some.length === behind.length
    const through = isEnd ? this.head : (some.at(-1)?.[1].entryNo ?? after)
    const mark = this.marks.get(through) ?? name()
    this.marks.set(through, mark)
    return {
      table: this.table,
      stream: this.stream,
      after,
      through,
      mark,
      isEnd,
      documents: some.map(([recordId, { document }]) => this.toDocument(recordId, document)),
      shape: this.shape,
      keyColumns: this.keyColumns,
    }
  }

  private toDocument(recordId: string, document: StreamDocument | undefined): AudienceDocument {
    if (document === undefined) return { recordId, records: [] }
    const parts = Object.entries(document.parts ?? {}).flatMap(([table, rows]) =>
      rows.map((row, n) => recordOf(table, this.partId(table, row) ?? `[${recordId},${n}]`, row)),
    )
    return { recordId, records: [recordOf(this.table, recordId, document.row), ...parts] }
  }

  private idOf(row: StreamRow): string {
    return keyOf(row, this.keyColumns)
  }

  private partId(table: string, row: StreamRow): string | undefined {
    const columns = this.partKeys[table]
    return columns && keyOf(row, columns)
  }
}

function recordOf(table: string, recordId: string, row: StreamRow): AudienceRecord {
  return { table, recordId, record: `{${Object.entries(row).map(([column, value]) => `${JSON.stringify(column)}:${textOf(value)}`)}}` }
}

function keyOf(row: StreamRow, columns: readonly string[]): string {
  return `[${columns.map((column) => textOf(row[column])).join(',')}]`
}

function textOf(value: unknown): string {
  return value instanceof Raw ? value.text : JSON.stringify(value ?? null)
}

function name(): string {
  return randomBytes(9).toString('base64url')
}

/** A register as central meets it. */
export function subscriberOf(till: Register): AudienceSubscriber {
  const { subscription } = till as unknown as RegisterReplica
  if (subscription === undefined) throw new Error('The register subscribes to nothing')
  return subscription.subscriber
}

/** Brings a register everything that it does not have, in batches of so many documents. Answers how many batches it took. */
export async function deliver(till: Register, streams: readonly AudienceStream[], most = Number.POSITIVE_INFINITY): Promise<number> {
  const subscriber = subscriberOf(till)
  const byTable = new Map(streams.map((stream) => [stream.table, stream]))
  for (let batches = 0; ; ) {
    const standings = await subscriber.standings()
    const next = standings.flatMap((standing) => {
      const batch = byTable.get(standing.table)?.next(standing, most)
      return batch === undefined || isKnown(standing, batch) ? [] : [batch]
    })
    if (next.length === 0) return batches
    await subscriber.take(next)
    batches += next.length
  }
}

function isKnown({ stream, entryNo }: AudienceStanding, { stream: other, through }: AudienceBatch): boolean {
  return stream === other && entryNo === through
}
