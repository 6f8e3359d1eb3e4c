import { TillsyncError } from './errors.ts'
import { type AnyTables, type Attributes, type AudienceRules, LEAST_TAKEN, type PublishRules, type RegisterName, type Takes } from './model.ts'
import type { CapturingDatabase, CentralDatabase, Link } from './ports.ts'

/** Pushed by the register: it starts every exchange. */
export interface PushTransfer {
  readonly type: 'push'
  /** What carries the messages, e.g. `httpLink({ url, token })`. */
  readonly link: Link
  /** The longest pause between two exchanges, in milliseconds; what is sealed goes out at once. Default 5,000; from 10 up. */
  readonly everyMs?: number
  /** How many entries a batch holds at most; a document with more goes whole. Default 500; from 1 up. */
  readonly recordsPerRun?: number
  /** About how many bytes a batch holds at most; a larger document goes in frames of so many, and of no more than central takes. Default 1,048,576; from 1,024 up. */
  readonly bytesPerRun?: number
  /** Bounds of the wait after a failure, in milliseconds. Default 500 and 60,000. */
  readonly backoff?: { readonly minMs?: number; readonly maxMs?: number }
}

/** Pulled by central: the host mounts `till.fetch`, and central starts every exchange. */
export interface PullTransfer {
  readonly type: 'pull'
  /**
   * What central must show: 43 characters, as `registers.add()` shows one. A function is asked at each exchange, so that another token needs no
   * restart.
   */
  readonly token: string | (() => string | Promise<string>)
  /** How many entries an exchange moves at most; a document with more goes whole. Default 500; from 1 up. */
  readonly recordsPerRun?: number
  /** About how many bytes a batch holds at most; a larger document goes in frames of so many, and of no more than central takes. Default 1,048,576; from 1,024 up. */
  readonly bytesPerRun?: number
  /** The largest message of central that is read, in bytes, packed and unpacked. Default 8,388,608; from 65,536 up. */
  readonly maxMessageBytes?: number
}

export interface RegisterOptions<DB, Mirrors = AnyTables> {
  /** The shop or warehouse, by code. */
  readonly location: string
  /** The register's name there. */
  readonly register: string
  /** `sqlite(…)` from 'tillsync/sqlite', or `postgres(pool, { schema })` from 'tillsync/postgres'. */
  readonly database: CapturingDatabase
  /** What central gets: tables by name; none where the register only subscribes. */
  readonly publish: PublishRules<DB>
  /** What is kept equal to what central publishes for this register: mirrors by central's tables. */
  readonly subscribe?: Mirrors
  /** How it gets there. Without it the register only captures. */
  readonly transfer?: PushTransfer | PullTransfer
  /**
   * How long entries that central has acknowledged are kept, in milliseconds: what lets central recover from its own backup.
   * Default 2,592,000,000 (30 days); from 0 up.
   */
  readonly retainMs?: number
  /**
   * After so long without a word from central, in milliseconds, it does not count any more: entries are pruned by age alone, and when it comes back, all that is published
   * is sealed anew. What was deleted in the meantime it never hears of. At least an hour; default: never.
   */
  readonly forgetAfterMs?: number
}

/** What central takes from one source or register before it holds it off; see docs/security.md. */
export interface Limits {
  /** How many wrong tokens may come from a source within a minute before it is locked out. Default 100; from 1 up. */
  readonly wrongTokens?: number
  /** How long a source is locked out, in milliseconds. Default 60,000; from 1 to a day. */
  readonly lockOutMs?: number
  /** How many exchanges a register may have in a minute; the others wait for the next. Default 12,000; from 1 up. */
  readonly exchangesPerMinute?: number
  /** How many sources, and how many registers, are remembered; those longest not seen are forgotten. Default 10,000; from 100 to 1,000,000. */
  readonly remembered?: number
}

/** How central pulls the registers that were added with `pull: { url }`. */
export interface PullOptions {
  /** The token that a register wants to see; asked at each exchange. */
  readonly token: (register: RegisterName) => string | Promise<string>
  /** The host's own `fetch`, e.g. with a proxy or a client certificate. Default: Node's. */
  readonly fetch?: typeof globalThis.fetch
  /** The pause between two runs of a register that has nothing more, in milliseconds. Default 30,000; from 10 up. */
  readonly everyMs?: number
  /** How many registers are pulled at the same time, and as many again of those that did not answer last time. Default 16; from 1 up. */
  readonly lanes?: number
  /** How long an exchange may take, in milliseconds. Default 30,000; from 1 up. */
  readonly timeoutMs?: number
}

/** When documents in quarantine are tried again by themselves. */
export interface RetryOptions {
  /** The pause after the first try, in milliseconds; it doubles with each. Default 10,000; from 10 up. */
  readonly minMs?: number
  /** The longest pause. Default 3,600,000 (an hour); from `minMs` up. */
  readonly maxMs?: number
  /** How many documents of a register are tried in one transaction. Default 100; from 1 to 10,000. */
  readonly perTurn?: number
}

export interface CentralOptions<
  Handlers,
  Checks = Readonly<Record<string, unknown>>,
  DB = AnyTables,
  Numberings = Readonly<Record<string, unknown>>,
> {
  /** `postgres(pool)` from 'tillsync/postgres'. */
  readonly database: CentralDatabase
  /** What is done with documents, by root table; a table that is not named is archived only. */
  readonly subscribe: Handlers
  /** What the registers get, and which of them: tables by name. Without it nothing is sent to them. */
  readonly publish?: AudienceRules<DB>
  /** Checks by root table: a document with which something is wrong goes to quarantine before anything of it is posted. */
  readonly validate?: Checks
  /** How the tills number their documents, by root table: what `audit()` proves of that. */
  readonly numbering?: Numberings
  /**
   * How long a handler may take for a set of documents, in milliseconds; those that hang go to quarantine. JavaScript that never gives way can't be ended. Default 60,000;
   * from 10 to an hour.
   */
  readonly handlerTimeoutMs?: number
  /** When documents in quarantine are tried again by themselves. */
  readonly retry?: RetryOptions
  /** The largest message that is read, in bytes, packed and unpacked; the registers learn it and keep to it. Default 67,108,864; from 65,536 up. */
  readonly maxMessageBytes?: number
  /**
   * The largest document that is taken, in bytes of its records: one that is too large for a message comes in frames, which are kept until it is whole.
   * Default 67,108,864; from 65,536 up.
   */
  readonly maxDocumentBytes?: number
  /** How many registers are applied at the same time; each takes a connection of the pool. Default 4; from 1 up. */
  readonly lanes?: number
  /** What is taken from one source or register before it is held off. */
  readonly limits?: Limits
  /**
   * How long an answer is held back where a register that pushes has nothing to send and central nothing to say, in milliseconds: an idle register then
   * asks so often only. The register ends the wait as soon as it has something. Default 25,000; from 0 (off) to 300,000.
   */
  readonly longPollMs?: number
  /** How registers are pulled. Without it central only answers. */
  readonly pull?: PullOptions
  /**
   * How long versions of documents that a later one has replaced are kept in the archive, in milliseconds from when they were received. The latest version of each document stays for ever, and so
   * does what restores may ask for. Default: all is kept; from 0 to 3,155,760,000,000 (100 years).
   */
  readonly retainArchiveMs?: number
}

export interface RotateOptions {
  /** How long the former token stays valid beside the new one, in milliseconds. Default 86,400,000 (a day); from 0 (it ends at once) to a year. */
  readonly overlapMs?: number
}

/** Node turns a longer timer into one of a millisecond. */
const LONGEST_MS = 2_147_483_647
const HOUR_MS = 3_600_000
const DAY_MS = 24 * 3_600_000
const YEAR_MS = 366 * DAY_MS
const CENTURY_MS = 36_525 * DAY_MS
const PULL_TOKEN = /^[A-Za-z0-9_-]{43}$/

/** The one place that has a default. */
const DEFAULTS = {
  everyMs: 5_000,
  retainMs: 30 * DAY_MS,
  recordsPerRun: 500,
  bytesPerRun: 1_048_576,
  backoffMinMs: 500,
  backoffMaxMs: 60_000,
  maxMessageBytes: 67_108_864,
  lanes: 4,
  overlapMs: DAY_MS,
  wrongTokens: 100,
  lockOutMs: 60_000,
  exchangesPerMinute: 12_000,
  remembered: 10_000,
  tillMessageBytes: 8_388_608,
  maxDocumentBytes: 67_108_864,
  longPollMs: 25_000,
  retryMinMs: 10_000,
  retryMaxMs: HOUR_MS,
  retriesPerTurn: 100,
  pullEveryMs: 30_000,
  pullLanes: 16,
  pullTimeoutMs: 30_000,
  handlerTimeoutMs: 60_000,
} as const

/** What a batch holds at most. */
interface BatchLimits {
  readonly recordsPerRun: number
  readonly bytesPerRun: number
}

export interface Push extends BatchLimits {
  readonly type: 'push'
  readonly link: Link
  readonly everyMs: number
  readonly backoff: { readonly minMs: number; readonly maxMs: number }
  readonly maxMessageBytes: number
}

export interface Served extends BatchLimits {
  readonly type: 'pull'
  readonly token: string | (() => string | Promise<string>)
  readonly maxMessageBytes: number
}

/** @throws ERR_OPTION */
export function readTransfer(transfer: PushTransfer | PullTransfer | undefined): Push | Served | undefined {
  if (transfer === undefined) return undefined
  if (typeof transfer !== 'object' || transfer === null) throw bad('transfer', "an object such as { type: 'push', link }", transfer)
  if (transfer.type === 'pull') return readServed(transfer)
  if (transfer.type === 'push') return readPush(transfer)
  throw bad('transfer.type', "'push' or 'pull'", (transfer as { type?: unknown }).type)
}

function readPush(transfer: PushTransfer): Push {
  if (typeof transfer.link?.exchange !== 'function') throw bad('transfer.link', 'a link such as httpLink({ url, token })', transfer.link)
  known('transfer', transfer, ['type', 'link', 'everyMs', 'recordsPerRun', 'bytesPerRun', 'backoff'])
  const { backoff = {} } = transfer
  if (typeof backoff !== 'object' || backoff === null) throw bad('transfer.backoff', 'an object such as { minMs, maxMs }', backoff)
  known('transfer.backoff', backoff, ['minMs', 'maxMs'])
  const minMs = whole('transfer.backoff.minMs', backoff.minMs ?? DEFAULTS.backoffMinMs, 1, LONGEST_MS)
  return {
    type: 'push',
    link: transfer.link,
    everyMs: whole('transfer.everyMs', transfer.everyMs ?? DEFAULTS.everyMs, 10, LONGEST_MS),
    ...readBatchLimits(transfer),
    backoff: { minMs, maxMs: whole('transfer.backoff.maxMs', backoff.maxMs ?? DEFAULTS.backoffMaxMs, minMs, LONGEST_MS) },
    maxMessageBytes: DEFAULTS.maxMessageBytes,
  }
}

function readServed(transfer: PullTransfer): Served {
  known('transfer', transfer, ['type', 'token', 'recordsPerRun', 'bytesPerRun', 'maxMessageBytes'])
  const { token } = transfer
  if (typeof token !== 'function') checkPullToken(token)
  return {
    type: 'pull',
    token,
    ...readBatchLimits(transfer),
    maxMessageBytes: whole('transfer.maxMessageBytes', transfer.maxMessageBytes ?? DEFAULTS.tillMessageBytes, 65_536),
  }
}

/**
 * A secret that is too short to be one, or would not pass a header, is refused before anybody relies on it.
 *
 * @throws ERR_OPTION
 */
export function checkPullToken(token: unknown): asserts token is string {
  if (typeof token === 'string' && PULL_TOKEN.test(token)) return
  throw new TillsyncError('ERR_OPTION', `Expected \`transfer.token\` to be 43 characters of base64url, got ${typeof token}`, {
    hint: "As central's registers.add() shows one: randomBytes(32).toString('base64url').",
    context: { option: 'transfer.token' },
  })
}

function readBatchLimits({ recordsPerRun, bytesPerRun }: { readonly recordsPerRun?: number; readonly bytesPerRun?: number }): BatchLimits {
  return {
    recordsPerRun: whole('transfer.recordsPerRun', recordsPerRun ?? DEFAULTS.recordsPerRun, 1),
    bytesPerRun: whole('transfer.bytesPerRun', bytesPerRun ?? DEFAULTS.bytesPerRun, 1_024),
  }
}

/** @throws ERR_OPTION */
export function readRetainMs(retainMs: number | undefined): number {
  return whole('retainMs', retainMs ?? DEFAULTS.retainMs, 0)
}

export function readForgetAfterMs(forgetAfterMs: number | undefined): number {
  return forgetAfterMs === undefined ? Number.POSITIVE_INFINITY : whole('forgetAfterMs', forgetAfterMs, HOUR_MS)
}

const OLDEST_NODE = 22

/**
 * better-sqlite3 13 ends a process of Node 20 without a word; an error says more.
 *
 * @throws ERR_RUNTIME
 */
export function checkRuntime(version: string): void {
  if (Number.parseInt(version, 10) >= OLDEST_NODE) return
  throw new TillsyncError('ERR_RUNTIME', `tillsync needs Node ${OLDEST_NODE} or later, this is ${version}`, {
    hint: 'Update Node; 24 is the version that the tests run on.',
  })
}

/** @throws ERR_OPTION, ERR_RUNTIME */
export function checkRegisterOptions(options: RegisterOptions<never>): void {
  checkRuntime(process.versions.node)
  if (typeof options !== 'object' || options === null) throw bad('options', 'an object', options)
  known('options', options, ['location', 'register', 'database', 'publish', 'subscribe', 'transfer', 'retainMs', 'forgetAfterMs'])
  checkName('location', options.location)
  checkName('register', options.register)
  const databases = "sqlite(…) from 'tillsync/sqlite' or postgres(…) from 'tillsync/postgres'"
  checkDatabase(options.database, databases)
  if (!('capture' in options.database)) throw bad('database', databases, options.database)
  if (typeof options.publish !== 'object' || options.publish === null)
    throw bad('publish', 'an object of tables, such as { receipts: {} }', options.publish)
  if (Object.keys(options.publish).length === 0 && Object.keys(options.subscribe ?? {}).length === 0)
    throw bad('publish', 'at least one table, such as { receipts: {} }', '{}')
  if (options.subscribe !== undefined && !('mirroring' in options.database)) throw bad('database', databases, options.database)
}

/** @throws ERR_OPTION */
export function readCentralOptions(options: CentralOptions<Readonly<Record<string, unknown>>>): {
  readonly takes: Takes
  readonly lanes: number
  readonly limits: Required<Limits>
  readonly longPollMs: number
  readonly pull: Required<PullOptions> | undefined
  readonly retainArchiveMs: number | undefined
  readonly handlerTimeoutMs: number
  readonly retry: Required<RetryOptions>
} {
  checkRuntime(process.versions.node)
  if (typeof options !== 'object' || options === null) throw bad('options', 'an object', options)
  known('options', options, [
    'database',
    'subscribe',
    'maxMessageBytes',
    'maxDocumentBytes',
    'validate',
    'numbering',
    'retry',
    'lanes',
    'limits',
    'longPollMs',
    'pull',
    'retainArchiveMs',
    'handlerTimeoutMs',
    'publish',
  ])
  checkDatabase(options.database, "postgres(pool) from 'tillsync/postgres'")
  if (options.database.dialect !== 'postgres') throw bad('database', "postgres(pool) from 'tillsync/postgres'", 'sqlite')
  if (typeof options.subscribe !== 'object' || options.subscribe === null) throw bad('subscribe', 'an object of handlers by table', options.subscribe)
  if (options.publish !== undefined && (typeof options.publish !== 'object' || options.publish === null))
    throw bad('publish', 'an object of tables, such as { items: {} }', options.publish)
  if (options.validate !== undefined && (typeof options.validate !== 'object' || options.validate === null))
    throw bad('validate', 'an object of checks by table', options.validate)
  return {
    takes: {
      message: whole('maxMessageBytes', options.maxMessageBytes ?? DEFAULTS.maxMessageBytes, LEAST_TAKEN),
      document: whole('maxDocumentBytes', options.maxDocumentBytes ?? DEFAULTS.maxDocumentBytes, LEAST_TAKEN),
    },
    handlerTimeoutMs: whole('handlerTimeoutMs', options.handlerTimeoutMs ?? DEFAULTS.handlerTimeoutMs, 10, HOUR_MS),
    retry: readRetry(options.retry),
    lanes: whole('lanes', options.lanes ?? DEFAULTS.lanes, 1),
    limits: readLimits(options.limits),
    longPollMs: whole('longPollMs', options.longPollMs ?? DEFAULTS.longPollMs, 0, 300_000),
    pull: options.pull === undefined ? undefined : readPull(options.pull),
    retainArchiveMs: options.retainArchiveMs === undefined ? undefined : whole('retainArchiveMs', options.retainArchiveMs, 0, CENTURY_MS),
  }
}

function readRetry(retry: RetryOptions = {}): Required<RetryOptions> {
  if (typeof retry !== 'object' || retry === null) throw bad('retry', 'an object such as { minMs, maxMs }', retry)
  known('retry', retry, ['minMs', 'maxMs', 'perTurn'])
  const minMs = whole('retry.minMs', retry.minMs ?? DEFAULTS.retryMinMs, 10, LONGEST_MS)
  return {
    minMs,
    maxMs: whole('retry.maxMs', retry.maxMs ?? Math.max(minMs, DEFAULTS.retryMaxMs), minMs, LONGEST_MS),
    perTurn: whole('retry.perTurn', retry.perTurn ?? DEFAULTS.retriesPerTurn, 1, 10_000),
  }
}

function readPull(pull: PullOptions): Required<PullOptions> {
  if (typeof pull !== 'object' || pull === null) throw bad('pull', 'an object such as { token }', pull)
  known('pull', pull, ['token', 'fetch', 'everyMs', 'lanes', 'timeoutMs'])
  const { token, fetch = globalThis.fetch } = pull
  if (typeof token !== 'function') throw bad('pull.token', 'a function: (register) => token', token)
  if (typeof fetch !== 'function') throw bad('pull.fetch', 'a function like fetch', fetch)
  return {
    token,
    fetch,
    everyMs: whole('pull.everyMs', pull.everyMs ?? DEFAULTS.pullEveryMs, 10, LONGEST_MS),
    lanes: whole('pull.lanes', pull.lanes ?? DEFAULTS.pullLanes, 1),
    timeoutMs: whole('pull.timeoutMs', pull.timeoutMs ?? DEFAULTS.pullTimeoutMs, 1, LONGEST_MS),
  }
}

/** What central takes at most, unless it is told otherwise. */
export function defaultTakes(): Takes {
  return { message: DEFAULTS.maxMessageBytes, document: DEFAULTS.maxDocumentBytes }
}

/** What is taken from one source before it is held off, where the host can't say. */
export function defaultLimits(): Required<Limits> {
  return readLimits(undefined)
}

function readLimits(limits: Limits = {}): Required<Limits> {
  if (typeof limits !== 'object' || limits === null) throw bad('limits', 'an object such as { wrongTokens, lockOutMs }', limits)
  known('limits', limits, ['wrongTokens', 'lockOutMs', 'exchangesPerMinute', 'remembered'])
  return {
    wrongTokens: whole('limits.wrongTokens', limits.wrongTokens ?? DEFAULTS.wrongTokens, 1),
    lockOutMs: whole('limits.lockOutMs', limits.lockOutMs ?? DEFAULTS.lockOutMs, 1, DAY_MS),
    exchangesPerMinute: whole('limits.exchangesPerMinute', limits.exchangesPerMinute ?? DEFAULTS.exchangesPerMinute, 1),
    remembered: whole('limits.remembered', limits.remembered ?? DEFAULTS.remembered, 100, 1_000_000),
  }
}

/** @throws ERR_OPTION */
export function readOverlapMs(options: RotateOptions): number {
  if (typeof options !== 'object' || options === null) throw bad('options', 'an object such as { overlapMs }', options)
  known('options', options, ['overlapMs'])
  return whole('overlapMs', options.overlapMs ?? DEFAULTS.overlapMs, 0, YEAR_MS)
}

/** @throws ERR_OPTION */
export function checkName(option: string, name: unknown): void {
  if (typeof name !== 'string' || name === '' || name.length > 200) throw bad(option, 'a string of 1 to 200 characters', name)
}

/** @throws ERR_OPTION */
export function whole(option: string, value: unknown, from: number, to = Number.MAX_SAFE_INTEGER): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= from && value <= to) return value
  throw bad(option, to === Number.MAX_SAFE_INTEGER ? `a whole number from ${from} up` : `a whole number from ${from} to ${to}`, value)
}

/** @throws ERR_OPTION where there is an option that nobody reads */
export function known(option: string, given: object, names: readonly string[]): void {
  const other = Object.keys(given).find((name) => !names.includes(name))
  if (other === undefined) return
  throw new TillsyncError('ERR_OPTION', `\`${option}.${other}\` is not an option`, {
    hint: `Known here: ${names.join(', ')}.`,
    context: { option: other },
  })
}

function checkDatabase(database: unknown, expected: string): void {
  if (typeof database !== 'object' || database === null || !('dialect' in database)) throw bad('database', expected, database)
}

function bad(option: string, expected: string, got: unknown): TillsyncError {
  const shown = typeof got === 'string' ? `'${got}'` : typeof got === 'number' ? `${got}` : got === null ? 'null' : ''
  return new TillsyncError('ERR_OPTION', `Expected \`${option}\` to be ${expected}, got ${shown === '' ? typeof got : `${shown} (${typeof got})`}`, {
    hint: 'See docs/configuration.md.',
    context: { option },
  })
}

/**
 * What filters may ask of a register.
 *
 * @throws ERR_OPTION
 */
export function readAttributes(attributes: unknown): Attributes {
  if (typeof attributes !== 'object' || attributes === null || Array.isArray(attributes))
    throw bad('attributes', "an object such as { priceGroup: 'A' }", attributes)
  for (const [name, value] of Object.entries(attributes))
    if (!(value === null || typeof value === 'string' || typeof value === 'boolean' || Number.isFinite(value)))
      throw bad(`attributes.${name}`, 'text, a number, a boolean or null', value)
  return attributes as Attributes
}
