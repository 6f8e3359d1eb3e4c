import { type AnyTables, type AudienceRules, LEAST_TAKEN, type RegisterName, type Takes } from './model.ts'
import {
  bad,
  CENTURY_MS,
  checkDatabase,
  checkFunction,
  checkMostBytes,
  checkRuntime,
  DAY_MS,
  DEFAULTS,
  HOUR_MS,
  isRecord,
  known,
  LONGEST_MS,
  unlessGiven,
  whole,
  YEAR_MS,
} from './options.ts'
import type { CentralDatabase, CentralMailbox } from './ports.ts'

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
  /**
   * How long a statement may take that asks filters of `publish`, for a few hundred documents at a time, in milliseconds. Meanwhile a register waits. Default 10,000; from 10 to an hour.
   */
  readonly filterTimeoutMs?: number
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
   * asks so often only. The register ends the wait as soon as it has something. Default 50,000; from 0 (off) to 300,000.
   */
  readonly longPollMs?: number
  /** Where registers leave their letters that have a mailbox instead of a link, e.g. `centralFileMailbox({ folder, keys })`. Several processes may receive from the same. */
  readonly mailboxes?: readonly CentralMailbox[]
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

function readMailboxes(mailboxes: readonly CentralMailbox[] = []): readonly CentralMailbox[] {
  if (!Array.isArray(mailboxes)) throw bad('mailboxes', 'a list of mailboxes such as [centralFileMailbox({ folder, keys })]', mailboxes)
  for (const mailbox of mailboxes as readonly CentralMailbox[]) {
    if (typeof mailbox?.send !== 'function' || typeof mailbox.receive !== 'function')
      throw bad('mailboxes', 'a list of mailboxes such as [centralFileMailbox({ folder, keys })]', mailbox)
    checkMostBytes('mailboxes.maxBytes', mailbox.maxBytes)
    checkFunction('mailboxes.close', mailbox.close)
  }
  return mailboxes
}

/** @throws ERR_OPTION */
export function readCentralOptions(options: CentralOptions<Readonly<Record<string, unknown>>>): {
  readonly takes: Takes
  readonly lanes: number
  readonly limits: Required<Limits>
  readonly longPollMs: number
  readonly pull: Required<PullOptions> | undefined
  readonly mailboxes: readonly CentralMailbox[]
  readonly retainArchiveMs: number | undefined
  readonly handlerTimeoutMs: number
  readonly filterTimeoutMs: number
  readonly retry: Required<RetryOptions>
} {
  checkRuntime(process.versions.node)
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
    'mailboxes',
    'retainArchiveMs',
    'handlerTimeoutMs',
    'filterTimeoutMs',
    'publish',
  ])
  checkDatabase(options.database, "postgres(pool) from 'tillsync/postgres'")
  if (options.database.dialect !== 'postgres') throw bad('database', "postgres(pool) from 'tillsync/postgres'", 'sqlite')
  if (!isRecord(options.subscribe)) throw bad('subscribe', 'an object of handlers by table', options.subscribe)
  if (options.publish !== undefined && !isRecord(options.publish)) throw bad('publish', 'an object of tables, such as { items: {} }', options.publish)
  if (options.validate !== undefined && !isRecord(options.validate)) throw bad('validate', 'an object of checks by table', options.validate)
  return {
    takes: {
      message: whole('maxMessageBytes', unlessGiven(options.maxMessageBytes, DEFAULTS.maxMessageBytes), LEAST_TAKEN),
      document: whole('maxDocumentBytes', unlessGiven(options.maxDocumentBytes, DEFAULTS.maxDocumentBytes), LEAST_TAKEN),
    },
    handlerTimeoutMs: whole('handlerTimeoutMs', unlessGiven(options.handlerTimeoutMs, DEFAULTS.handlerTimeoutMs), 10, HOUR_MS),
    filterTimeoutMs: whole('filterTimeoutMs', unlessGiven(options.filterTimeoutMs, DEFAULTS.filterTimeoutMs), 10, HOUR_MS),
    retry: readRetry(options.retry),
    lanes: whole('lanes', unlessGiven(options.lanes, DEFAULTS.lanes), 1),
    limits: readLimits(options.limits),
    longPollMs: whole('longPollMs', unlessGiven(options.longPollMs, DEFAULTS.longPollMs), 0, 300_000),
    pull: options.pull === undefined ? undefined : readPull(options.pull),
    mailboxes: readMailboxes(options.mailboxes),
    retainArchiveMs: options.retainArchiveMs === undefined ? undefined : whole('retainArchiveMs', options.retainArchiveMs, 0, CENTURY_MS),
  }
}

function readRetry(retry: RetryOptions = {}): Required<RetryOptions> {
  if (typeof retry !== 'object' || retry === null) throw bad('retry', 'an object such as { minMs, maxMs }', retry)
  known('retry', retry, ['minMs', 'maxMs', 'perTurn'])
  const minMs = whole('retry.minMs', unlessGiven(retry.minMs, DEFAULTS.retryMinMs), 10, LONGEST_MS)
  return {
    minMs,
    maxMs: whole('retry.maxMs', unlessGiven(retry.maxMs, Math.max(minMs, DEFAULTS.retryMaxMs)), minMs, LONGEST_MS),
    perTurn: whole('retry.perTurn', unlessGiven(retry.perTurn, DEFAULTS.retriesPerTurn), 1, 10_000),
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
    everyMs: whole('pull.everyMs', unlessGiven(pull.everyMs, DEFAULTS.pullEveryMs), 10, LONGEST_MS),
    lanes: whole('pull.lanes', unlessGiven(pull.lanes, DEFAULTS.pullLanes), 1),
    timeoutMs: whole('pull.timeoutMs', unlessGiven(pull.timeoutMs, DEFAULTS.pullTimeoutMs), 1, LONGEST_MS),
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
    wrongTokens: whole('limits.wrongTokens', unlessGiven(limits.wrongTokens, DEFAULTS.wrongTokens), 1),
    lockOutMs: whole('limits.lockOutMs', unlessGiven(limits.lockOutMs, DEFAULTS.lockOutMs), 1, DAY_MS),
    exchangesPerMinute: whole('limits.exchangesPerMinute', unlessGiven(limits.exchangesPerMinute, DEFAULTS.exchangesPerMinute), 1),
    remembered: whole('limits.remembered', unlessGiven(limits.remembered, DEFAULTS.remembered), 100, 1_000_000),
  }
}

/** @throws ERR_OPTION */
export function readOverlapMs(options: RotateOptions): number {
  if (typeof options !== 'object' || options === null) throw bad('options', 'an object such as { overlapMs }', options)
  known('options', options, ['overlapMs'])
  return whole('overlapMs', unlessGiven(options.overlapMs, DEFAULTS.overlapMs), 0, YEAR_MS)
}
