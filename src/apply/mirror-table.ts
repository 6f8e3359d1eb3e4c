import { isUtf8 } from 'node:buffer'
import { TillsyncError } from '../errors.ts'
import type { MirrorOthers, MirrorRows, MirrorTarget } from '../mirroring.ts'
import type { RegisterName, Value } from '../model.ts'
import { decodeRecord, encodeValue, ownOf } from '../record.ts'
import type { ApplyContext } from './handler.ts'
import type { PlainMirrorOptions } from './mirror-options.ts'

/** A record on its way into the table. */
interface Prepared {
  /** As sealed. */
  readonly record: string
  /** As it is written, where `map` made another one of it: with the target's names. */
  readonly mapped: string | undefined
  /** The target's columns that it has. */
  readonly columns: readonly string[]
}

/** Records with the same columns. */
export interface Alike extends MirrorRows {
  readonly written: readonly string[]
}

/** How the records of one of the till's tables become rows of one of central's. */
export class MirrorTable {
  readonly target: MirrorTarget
  readonly rows: 'all' | 'update'
  readonly constants: Readonly<Record<string, string>>
  private readonly options: PlainMirrorOptions
  private readonly origin: RegisterName
  private readonly leftOut: ApplyContext['leftOut']
  /** The till's columns that say which row it is and where it belongs. */
  private readonly required: readonly string[]
  /** The till's name of a column, where it is another one. */
  private readonly senders: Readonly<Record<string, string>>
  /** The target's columns by the till's: those of most records are the same. */
  private readonly seen = new Map<string, readonly string[]>()
  private last: { readonly names: readonly string[]; readonly columns: readonly string[] } | undefined

  /**
   * @param joints the till's columns by which the document's parts hang together
   * @throws ERR_RULE where one that is needed is left out
   */
  constructor(
    target: MirrorTarget,
    options: PlainMirrorOptions,
    joints: readonly string[],
    { origin, leftOut }: Pick<ApplyContext, 'origin' | 'leftOut'>,
  ) {
    this.target = target
    this.options = options
    this.rows = options.rows ?? 'all'
    this.origin = { location: origin.location, register: origin.register }
    this.leftOut = leftOut
    this.constants = options.origin ? { ...this.origin } : {}
    this.senders = Object.fromEntries(Object.entries(options.rename?.columns ?? {}).map(([own, theirs]) => [theirs, own]))
    this.required = [...new Set([...this.key.map((name) => this.senderOf(name)), ...(this.rows === 'update' ? [] : joints)])]
    const left = this.required.find((name) => options.except?.includes(name))
    if (left !== undefined) {
      throw new TillsyncError(
        'ERR_RULE',
        `\`except\` leaves out \`${left}\`, which says which row of \`${target.name}\` it is, or where it belongs`,
        {
          hint: "Columns of the key, and those by which parts hang together, are the till's. With `rows: 'update'` only those of the key are needed.",
          context: { table: target.name, column: left },
        },
      )
    }
  }

  /** Columns of the target's key that come with the records. */
  get key(): readonly string[] {
    return this.target.key.filter((name) => !Object.hasOwn(this.constants, name))
  }

  nameOf(sent: string): string {
    return ownOf(this.options.rename?.columns, sent) ?? sent
  }

  senderOf(name: string): string {
    return ownOf(this.senders, name) ?? name
  }

  /** Sealed records, known by some of the target's columns. */
  sent(columns: readonly string[], records: readonly string[]): MirrorRows {
    return { table: this.target, columns, members: this.senders, records, constants: this.constants }
  }

  /** Rows that were read from the target. */
  found(columns: readonly string[], records: readonly string[]): MirrorRows {
    return { table: this.target, columns, records, constants: this.constants }
  }

  /**
   * Of records with the same key the last: a line that one document gave up and another took within the batch stands in both.
   *
   * @param decoded the records as values, where they were read already
   * @throws ERR_MIRROR, ERR_HANDLER
   */
  prepare(records: readonly string[], decoded: readonly Readonly<Record<string, Value>>[] = records.map(decodeRecord)): readonly Alike[] {
    const found = new Map<string, Prepared>()
    const [first, ...more] = this.key.map((name) => this.senderOf(name))
    for (const [n, record] of records.entries()) {
      const values = decoded[n] as Readonly<Record<string, Value>>
      const text = keyText(values[first as string])
      const name = more.length === 0 ? text : JSON.stringify([text, ...more.map((column) => keyText(values[column]))])
      found.delete(name)
      found.set(name, this.prepareOne(record, values))
    }
    return [...Map.groupBy(found.values(), ({ columns }) => columns).values()].map((alike) => this.rowsOf(alike))
  }

  private rowsOf(alike: readonly Prepared[]): Alike {
    const columns = alike[0]?.columns ?? []
    const texts = alike.map(({ record, mapped }) => mapped ?? record)
    const rows = this.options.map ? this.found(columns, texts) : this.sent(columns, texts)
    return { ...rows, written: columns.filter((name) => this.isWritten(name)) }
  }

  private isWritten(name: string): boolean {
    const { only, except } = this.options
    if (this.target.columns.some((column) => column.name === name && column.generated)) return this.target.key.includes(name) && this.rows === 'all'
    if (this.rows === 'all') return true
    return !this.target.key.includes(name) && (only?.includes(this.senderOf(name)) ?? !except?.includes(this.senderOf(name)))
  }

  private prepareOne(record: string, values: Readonly<Record<string, Value>>): Prepared {
    const { only, except, map } = this.options
    const names = Object.keys(values)
    // Most records have the columns of the one before.
    if (this.last !== undefined && isAlike(names, this.last.names)) return { record, mapped: undefined, columns: this.last.columns }
    const taken = names.filter((name) => (only ? only.includes(name) || this.required.includes(name) : !except?.includes(name)))
    if (map === undefined) {
      const columns = this.columnsOf(taken)
      this.last = { names, columns }
      return { record, mapped: undefined, columns }
    }
    const row = this.map(map, values, taken)
    const mappedNames = Object.keys(row)
    const invented = mappedNames.find(
      (name) => !Object.hasOwn(values, name) && !this.target.columns.some((column) => column.name === this.nameOf(name)),
    )
    if (invented !== undefined)
      throw this.unfit(`has no column \`${invented}\`, which \`map\` returns`, invented, 'Add the column, or take it out of `map`.')
    const mapped = `{${mappedNames.map((name) => `${JSON.stringify(this.nameOf(name))}:${encodeValue(row[name] as Value)}`).join(',')}}`
    return { record, mapped, columns: this.columnsOf(mappedNames) }
  }

  /** @throws ERR_MIRROR where the target lacks one of them, or they a column of the target's key */
  private columnsOf(sent: readonly string[]): readonly string[] {
    const known = this.seen.get(sent.join('\0'))
    if (known !== undefined) return known
    const columns = this.checkedColumns(sent)
    this.seen.set(sent.join('\0'), columns)
    return columns
  }

  private checkedColumns(sent: readonly string[]): readonly string[] {
    const { target, constants } = this
    const names = sent.map((name) => this.nameOf(name))
    const unknown = names.filter((name) => !Object.hasOwn(constants, name) && !target.columns.some((column) => column.name === name))
    for (const name of unknown) this.leaveOut(name)
    this.refuseTwice(sent, names)
    const missing = this.key.find((name) => !names.includes(name))
    if (missing !== undefined)
      throw this.unfit(
        `has the key column \`${missing}\`, which is not sent`,
        missing,
        "Publish it; at central mirror can fill it: mirror({ origin: ['location', 'register'] }).",
      )
    const isComputed = (name: string) => !target.key.includes(name) && target.columns.some((column) => column.name === name && column.generated)
    return names.filter((name) => !Object.hasOwn(constants, name) && !unknown.includes(name) && !isComputed(name))
  }

  /** @throws ERR_MIRROR where `rename` gives one column of the target to two that are sent, or the place of one that is sent to another */
  private refuseTwice(sent: readonly string[], names: readonly string[]): void {
    for (const [n, name] of names.entries()) {
      const first = this.options.map === undefined ? this.senderOf(name) : (sent[names.indexOf(name)] as string)
      if (first === sent[n] || Object.hasOwn(this.constants, name)) continue
      throw this.unfit(
        `has one column \`${name}\` for \`${first}\`, by \`rename\`, and for \`${sent[n]}\`, which is sent`,
        name,
        `Rename \`${sent[n]}\` too, or leave it out with \`except\`.`,
      )
    }
  }

  /** @throws ERR_MIRROR where what is sent must have its place */
  private leaveOut(name: string): void {
    if (this.leftOut === undefined)
      throw this.unfit(`has no column \`${name}\`, which is sent`, name, 'Add the column, or leave it out with `except`.')
    this.leftOut(this.target.name, name)
  }

  private map(map: NonNullable<PlainMirrorOptions['map']>, values: Readonly<Record<string, Value>>, taken: readonly string[]): Record<string, Value> {
    let made: unknown
    try {
      made = map(Object.fromEntries(taken.map((name) => [name, values[name] as Value])), this.origin)
    } catch (cause) {
      throw new TillsyncError('ERR_HANDLER', `\`map\` of \`${this.target.name}\` threw`, {
        hint: 'It gets each row alone; the cause has what it threw.',
        context: { table: this.target.name },
        cause,
      })
    }
    if (typeof made !== 'object' || made === null || Array.isArray(made) || typeof (made as { then?: unknown }).then === 'function')
      throw this.unfit(
        `got no row from \`map\`, but ${made === null ? 'null' : Array.isArray(made) ? 'a list' : typeof made}`,
        undefined,
        'It returns an object of values by columns, at once.',
      )
    const row = Object.fromEntries(Object.entries(made).filter(([, value]) => value !== undefined))
    for (const [name, value] of Object.entries(row)) {
      if (!isValue(value))
        throw this.unfit(
          `got from \`map\` for \`${name}\` what is no value`,
          name,
          'Text, number, bigint, boolean, null or bytes; a date as ISO 8601 text.',
        )
      if (Object.hasOwn(values, name) && !taken.includes(name))
        throw this.unfit(`got \`${name}\` back from \`map\`, which \`only\` or \`except\` leaves out`, name, 'Take it out of the one or the other.')
    }
    const changed = this.required.find((name) => Object.hasOwn(values, name) && !isSame(values[name] as Value, row[name] as Value))
    if (changed !== undefined)
      throw this.unfit(
        `got another \`${changed}\` from \`map\``,
        changed,
        'Columns of the key, and those by which parts hang together, stay as they are.',
      )
    return row as Record<string, Value>
  }

  private unfit(what: string, column: string | undefined, hint: string): TillsyncError {
    return new TillsyncError('ERR_MIRROR', `\`${this.target.name}\` ${what}`, {
      hint,
      context: { table: this.target.name, ...(column !== undefined && { column }) },
    })
  }
}

/** Columns that all of these rows have, as those that may have to give up a unique value. */
export function inCommon(groups: readonly Alike[]): readonly MirrorOthers[] {
  const [first] = groups
  if (first === undefined) return []
  const has = (columns: (rows: Alike) => readonly string[]) => columns(first).filter((name) => groups.every((rows) => columns(rows).includes(name)))
  const records = groups.flatMap((rows) => rows.records)
  return [{ ...first, columns: has((rows) => rows.columns), written: has((rows) => rows.written), records }]
}

function isAlike(names: readonly string[], others: readonly string[]): boolean {
  return names.length === others.length && names.every((name, n) => name === others[n])
}

function isValue(value: unknown): value is Value {
  return value === null || ['string', 'number', 'bigint', 'boolean'].includes(typeof value) || value instanceof Uint8Array
}

function isSame(a: Value, b: Value | undefined): boolean {
  return a instanceof Uint8Array && b instanceof Uint8Array ? Buffer.compare(a, b) === 0 : Object.is(a, b)
}

/** Bytes that are no text would all look alike as one. */
function keyText(value: Value | undefined): string {
  return value instanceof Uint8Array && !isUtf8(value) ? `\\x${Buffer.from(value).toString('hex')}` : String(value ?? '')
}
