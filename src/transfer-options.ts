import { TillsyncError } from './errors.ts'
import { bad, checkFlag, checkFunction, checkMostBytes, DEFAULTS, known, LONGEST_MS, unlessGiven, whole } from './options.ts'
import type { Link, Mailbox } from './ports.ts'

const PULL_TOKEN = /^[A-Za-z0-9_-]{43}$/

interface PushLimits {
  /** The longest pause between two exchanges, in milliseconds; what is sealed goes out at once. Default 5,000; from 10 up. */
  readonly everyMs?: number
  /**
   * How many entries a batch holds at most; a document with more goes whole. Default 500, where a mailbox is visited now and then, as a stick is, 2,000; from 1 up.
   */
  readonly recordsPerRun?: number
  /**
   * About how many bytes a batch holds at most; a larger document goes in frames of so many, and of no more than central takes. Default 1,048,576, where a mailbox is visited
   * now and then 2,097,152; from 1,024 up.
   */
  readonly bytesPerRun?: number
  /** Bounds of the wait after a failure, in milliseconds. Default 500 and 60,000; 5,000 where a mailbox is visited now and then. */
  readonly backoff?: { readonly minMs?: number; readonly maxMs?: number }
}

/** Pushed by the register: it starts every exchange. */
export interface LinkTransfer extends PushLimits {
  readonly type: 'push'
  /** What carries the messages, e.g. `httpLink({ url, token })`. */
  readonly link: Link
  readonly mailbox?: never
}

/** Pushed by the register, and answered whenever central comes to its mailbox. */
export interface MailboxTransfer extends PushLimits {
  readonly type: 'push'
  /** What carries the letters, e.g. `fileMailbox({ folder, key, location, register })`. */
  readonly mailbox: Mailbox
  readonly link?: never
  /** How many letters may be on their way that central has not answered. Default 64, where the mailbox is visited now and then 256; from 1 to 1,000. */
  readonly unanswered?: number
  /** After so long without an answer, in milliseconds, it is sent again; the pause doubles up to the longest. Default 30,000 and 3,600,000 (an hour); from 10 up. */
  readonly resend?: { readonly minMs?: number; readonly maxMs?: number }
  /** How long `synchronize()` waits for an answer, in milliseconds. Default 60,000; from 10 up. */
  readonly answerMs?: number
}

export type PushTransfer = LinkTransfer | MailboxTransfer

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

/** What a batch holds at most. */
interface BatchLimits {
  readonly recordsPerRun: number
  readonly bytesPerRun: number
}

/** How much of what central publishes is asked for at once. */
interface Asks {
  readonly records: number
  readonly bytes: number
}

/** Bounds of a pause that grows. */
interface Pauses {
  readonly minMs: number
  readonly maxMs: number
}

interface Pushing extends BatchLimits {
  readonly type: 'push'
  readonly everyMs: number
  readonly backoff: Pauses
  readonly asks: Asks
  readonly maxMessageBytes: number
}

export interface Push extends Pushing {
  readonly link: Link
}

export interface Mailed extends Pushing {
  readonly mailbox: Mailbox
  readonly unanswered: number
  readonly resend: Pauses
  readonly answerMs: number
}

export interface Served extends BatchLimits {
  readonly type: 'pull'
  readonly token: string | (() => string | Promise<string>)
  readonly asks: Asks
  readonly maxMessageBytes: number
}

/** @throws ERR_OPTION */
export function readTransfer(transfer: PushTransfer | PullTransfer | undefined): Push | Mailed | Served | undefined {
  if (transfer === undefined) return undefined
  if (typeof transfer !== 'object' || transfer === null) throw bad('transfer', "an object such as { type: 'push', link }", transfer)
  if (transfer.type === 'pull') return readServed(transfer)
  if (transfer.type === 'push') return readPush(transfer)
  throw bad('transfer.type', "'push' or 'pull'", (transfer as { type?: unknown }).type)
}

function readPush(transfer: PushTransfer): Push | Mailed {
  if (transfer.mailbox !== undefined) return readMailed(transfer)
  if (typeof transfer.link?.exchange !== 'function')
    throw bad('transfer.link', 'a link such as httpLink({ url, token }), or a `mailbox` instead of it', transfer.link)
  known('transfer', transfer, ['type', 'link', 'mailbox', ...PUSH_LIMITS])
  if (transfer.link.waitMs !== undefined) whole('transfer.link.waitMs', transfer.link.waitMs, 0, LONGEST_MS)
  return { type: 'push', link: transfer.link, ...readPushing(transfer, false) }
}

function readMailed(transfer: MailboxTransfer): Mailed {
  const { mailbox } = transfer
  if (transfer.link !== undefined) throw bad('transfer.link', 'left out where there is a `mailbox`', transfer.link)
  if (typeof mailbox?.send !== 'function' || typeof mailbox.receive !== 'function')
    throw bad('transfer.mailbox', 'a mailbox such as fileMailbox({ folder, key, location, register })', mailbox)
  checkMostBytes('transfer.mailbox.maxBytes', mailbox.maxBytes)
  checkFunction('transfer.mailbox.unread', mailbox.unread)
  checkFunction('transfer.mailbox.close', mailbox.close)
  checkFlag('transfer.mailbox.isVisited', mailbox.isVisited)
  known('transfer', transfer, ['type', 'link', 'mailbox', 'unanswered', 'resend', 'answerMs', ...PUSH_LIMITS])
  const isVisited = mailbox.isVisited === true
  const pushing = readPushing(transfer, isVisited)
  return {
    type: 'push',
    mailbox,
    ...pushing,
    unanswered: whole(
      'transfer.unanswered',
      unlessGiven(transfer.unanswered, isVisited ? DEFAULTS.unansweredPerVisit : DEFAULTS.unanswered),
      1,
      1_000,
    ),
    resend: readPauses('transfer.resend', transfer.resend, { minMs: DEFAULTS.resendMinMs, maxMs: DEFAULTS.resendMaxMs }, 10),
    answerMs: whole('transfer.answerMs', unlessGiven(transfer.answerMs, DEFAULTS.answerMs), 10, LONGEST_MS),
  }
}

const PUSH_LIMITS = ['everyMs', 'recordsPerRun', 'bytesPerRun', 'backoff']

function readPushing(transfer: PushLimits, isVisited: boolean): Omit<Pushing, 'type'> {
  const { recordsPerRun, bytesPerRun } = transfer
  return {
    everyMs: whole('transfer.everyMs', unlessGiven(transfer.everyMs, DEFAULTS.everyMs), 10, LONGEST_MS),
    ...readBatchLimits({
      recordsPerRun: unlessGiven(recordsPerRun, isVisited ? DEFAULTS.recordsPerVisit : DEFAULTS.recordsPerRun),
      bytesPerRun: unlessGiven(bytesPerRun, isVisited ? DEFAULTS.bytesPerVisit : DEFAULTS.bytesPerRun),
    }),
    backoff: readPauses(
      'transfer.backoff',
      transfer.backoff,
      { minMs: DEFAULTS.backoffMinMs, maxMs: isVisited ? DEFAULTS.backoffMaxPerVisitMs : DEFAULTS.backoffMaxMs },
      1,
    ),
    asks: readAsks(transfer, isVisited),
    maxMessageBytes: DEFAULTS.maxMessageBytes,
  }
}

/** What comes down by a mailbox that is visited is asked for once a visit. */
function readAsks({ recordsPerRun, bytesPerRun }: Partial<BatchLimits>, isVisited: boolean): Asks {
  return {
    records: recordsPerRun ?? (isVisited ? DEFAULTS.recordsAskedPerVisit : DEFAULTS.recordsAsked),
    bytes: bytesPerRun ?? (isVisited ? DEFAULTS.bytesAskedPerVisit : DEFAULTS.bytesPerRun),
  }
}

function readPauses(option: string, pauses: { readonly minMs?: number; readonly maxMs?: number } = {}, or: Pauses, from: number): Pauses {
  if (typeof pauses !== 'object' || pauses === null) throw bad(option, 'an object such as { minMs, maxMs }', pauses)
  known(option, pauses, ['minMs', 'maxMs'])
  const minMs = whole(`${option}.minMs`, unlessGiven(pauses.minMs, or.minMs), from, LONGEST_MS)
  return { minMs, maxMs: whole(`${option}.maxMs`, unlessGiven(pauses.maxMs, or.maxMs), minMs, LONGEST_MS) }
}

function readServed(transfer: PullTransfer): Served {
  known('transfer', transfer, ['type', 'token', 'recordsPerRun', 'bytesPerRun', 'maxMessageBytes'])
  const { token } = transfer
  if (typeof token !== 'function') checkPullToken(token)
  return {
    type: 'pull',
    token,
    ...readBatchLimits(transfer),
    asks: readAsks(transfer, false),
    maxMessageBytes: whole('transfer.maxMessageBytes', unlessGiven(transfer.maxMessageBytes, DEFAULTS.tillMessageBytes), 65_536),
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
    recordsPerRun: whole('transfer.recordsPerRun', unlessGiven(recordsPerRun, DEFAULTS.recordsPerRun), 1),
    bytesPerRun: whole('transfer.bytesPerRun', unlessGiven(bytesPerRun, DEFAULTS.bytesPerRun), 1_024),
  }
}
