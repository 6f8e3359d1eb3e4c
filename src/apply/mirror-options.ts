import { TillsyncError } from '../errors.ts'
import type { AnyDocument, RegisterName, Value } from '../model.ts'
import { isRecord, known } from '../options.ts'

/** The row of a document's own table: without its parts. */
export type RowOf<D> = Omit<D, 'parts'>
type ColumnOf<D> = Exclude<keyof D & string, 'parts'>

export interface MirrorOptions<D = AnyDocument> {
  /** Only these of the sender's columns are written; those of the key, and those by which parts hang together, always are. Not together with `except`. */
  readonly only?: readonly ColumnOf<D>[]
  /** All of the sender's columns but these are written: central's own, which the till must not overwrite. */
  readonly except?: readonly ColumnOf<D>[]
  /** Where central's names differ from the till's: its table, and columns by the till's names. */
  readonly rename?: { readonly table?: string; readonly columns?: { readonly [C in ColumnOf<D>]?: string } }
  /**
   * Key columns of the target that are filled with the sender's location and register, so that registers that number alike stay apart. Default: none;
   * of a part: its root's.
   */
  readonly origin?: readonly ['location', 'register']
  /**
   * 'update': the other side owns which rows there are; none is inserted or removed. Default 'all'; of a part: its root's.
   */
  readonly rows?: 'all' | 'update'
  /** 'apply': a document that is removed at the till, or leaves its filter, is removed here, parts included. Default 'ignore': a till purges what head office keeps. */
  readonly removals?: 'apply' | 'ignore'
  /**
   * Makes of each row, as far as `only` and `except` leave it, the one that is written: a pure function, called again for the same row. Names are the till's; those that
   * `rename` does not know are central's.
   */
  readonly map?: (row: RowOf<D>, origin: RegisterName) => Readonly<Record<string, Value>>
  /** At a register: these of central's columns leave notices to the operator when they change, see `notices`. Rows that come or go leave one too. */
  readonly notify?: readonly ColumnOf<D>[]
  /**
   * With `notify`: the register's columns that say from and until which day a row counts, both included; its notices come on these days. False: a row always counts. Default:
   * `['valid_from', 'valid_to']`, where the table has them.
   */
  readonly validity?: readonly [string, string] | false
}

/** The options without the types of the host's tables. */
export interface PlainMirrorOptions {
  readonly only?: readonly string[]
  readonly except?: readonly string[]
  readonly rename?: { readonly table?: string; readonly columns?: Readonly<Record<string, string>> }
  readonly origin?: readonly ['location', 'register']
  readonly rows?: 'all' | 'update'
  readonly removals?: 'apply' | 'ignore'
  readonly map?: (row: Readonly<Record<string, Value>>, origin: RegisterName) => unknown
  readonly notify?: readonly string[]
  readonly validity?: readonly [string, string] | false
}

/** @throws ERR_OPTION */
export function readMirrorOptions(options: unknown): PlainMirrorOptions {
  if (!isRecord(options)) throw bad('the options of mirror()', 'an object', "mirror({ origin: ['location', 'register'] })")
  known('mirror', options, ['only', 'except', 'rename', 'origin', 'rows', 'removals', 'map', 'notify', 'validity'])
  const { only, except, rename, origin, rows, removals, map, notify, validity } = options
  for (const [name, columns] of Object.entries({ only, except, notify }))
    if (columns !== undefined && !isNames(columns)) throw bad(`mirror.${name}`, 'a list of columns', `mirror({ ${name}: ['status'] })`)
  if (only !== undefined && except !== undefined) throw bad('mirror', '`only` or `except`, not both', 'Keep the shorter of the two lists.')
  if (rename !== undefined) checkRename(rename)
  if (origin !== undefined && !(Array.isArray(origin) && origin.length === 2 && origin[0] === 'location' && origin[1] === 'register'))
    throw bad('mirror.origin', "['location', 'register']", 'These two columns belong to the primary key of each mirrored table.')
  if (rows !== undefined && rows !== 'all' && rows !== 'update')
    throw bad('mirror.rows', "'all' or 'update'", "'update' never inserts and never removes.")
  if (removals !== undefined && removals !== 'apply' && removals !== 'ignore')
    throw bad('mirror.removals', "'apply' or 'ignore'", "'ignore' keeps what a till purges.")
  if (removals === 'apply' && rows === 'update')
    throw bad('mirror.removals', "'ignore' beside rows: 'update'", 'Rows whose existence the other side owns are not removed.')
  if (map !== undefined && typeof map !== 'function')
    throw bad('mirror.map', 'a function', 'mirror({ map: (row) => ({ ...row, status: row.status ?? 0 }) })')
  if (validity !== undefined && validity !== false && !(isNames(validity) && (validity as string[]).length === 2))
    throw bad('mirror.validity', 'two columns, or false', "mirror({ notify: ['unit_price'], validity: ['starts_on', 'ends_on'] })")
  if (validity !== undefined && notify === undefined) throw bad('mirror.validity', 'beside `notify`', 'It says when notices come.')
  return options as PlainMirrorOptions
}

function checkRename(rename: unknown): void {
  const hint = "mirror({ rename: { table: 'sales', columns: { receipt_no: 'sale_no' } } })"
  if (!isRecord(rename)) throw bad('mirror.rename', 'an object', hint)
  known('mirror.rename', rename, ['table', 'columns'])
  const { table, columns } = rename
  if (table !== undefined && (typeof table !== 'string' || table === '')) throw bad('mirror.rename.table', 'a name', hint)
  if (columns === undefined) return
  if (!isRecord(columns) || !isNames(Object.values(columns))) throw bad('mirror.rename.columns', 'names by columns of the till', hint)
  const names = Object.values(columns)
  if (new Set(names).size < names.length) throw bad('mirror.rename.columns', 'one name for each column', hint)
}

function isNames(value: unknown): boolean {
  return Array.isArray(value) && value.every((name) => typeof name === 'string' && name !== '')
}

function bad(option: string, expected: string, hint: string): TillsyncError {
  return new TillsyncError('ERR_OPTION', `Expected ${option.startsWith('mirror') ? `\`${option}\`` : option} to be ${expected}`, {
    hint,
    context: { option },
  })
}
