import { TillsyncError } from './errors.ts'
import { type Attributes, LEAST_TAKEN } from './model.ts'

/** Node turns a longer timer into one of a millisecond. */
export const LONGEST_MS = 2_147_483_647
export const HOUR_MS = 3_600_000
export const DAY_MS = 24 * 3_600_000
export const YEAR_MS = 366 * DAY_MS
export const CENTURY_MS = 36_525 * DAY_MS

/** The one place that has a default. */
export const DEFAULTS = {
  everyMs: 5_000,
  retainMs: 30 * DAY_MS,
  recordsPerRun: 500,
  bytesPerRun: 1_048_576,
  recordsPerVisit: 2_000,
  bytesPerVisit: 2_097_152,
  recordsAsked: 2_000,
  recordsAskedPerVisit: 20_000,
  bytesAskedPerVisit: 16_777_216,
  backoffMaxPerVisitMs: 5_000,
  unanswered: 64,
  unansweredPerVisit: 256,
  resendMinMs: 30_000,
  resendMaxMs: HOUR_MS,
  answerMs: 60_000,
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
  longPollMs: 50_000,
  retryMinMs: 10_000,
  retryMaxMs: HOUR_MS,
  retriesPerTurn: 100,
  pullEveryMs: 30_000,
  pullLanes: 16,
  pullTimeoutMs: 30_000,
  handlerTimeoutMs: 60_000,
  filterTimeoutMs: 10_000,
} as const

/** A carrier of less could not carry what each side has to take. */
export function checkMostBytes(option: string, maxBytes: number | undefined): void {
  if (maxBytes !== undefined) whole(option, maxBytes, LEAST_TAKEN)
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

/** @throws ERR_OPTION */
export function checkName(option: string, name: unknown): void {
  if (typeof name !== 'string' || name === '' || name.length > 200) throw bad(option, 'a string of 1 to 200 characters', name)
  if (!isPostable(name)) throw bad(option, 'text without a NUL and without half of a surrogate pair', undefined)
}

/** Names that may be left out. @throws ERR_OPTION */
export function checkNames(names: Readonly<Record<string, unknown>>): void {
  for (const [option, name] of Object.entries(names)) if (name !== undefined) checkName(option, name)
}

/** Why somebody settles a document: kept for ever. @throws ERR_OPTION */
export function readReason(options: unknown, of: string): string {
  known('options', options, ['reason'])
  const { reason } = options as { readonly reason?: unknown }
  if (typeof reason === 'string' && reason.trim() !== '' && isPostable(reason)) return reason
  throw new TillsyncError(
    'ERR_OPTION',
    `Expected \`reason\` to say why, got ${typeof reason === 'string' ? 'text that says nothing, or can’t be kept' : typeof reason}`,
    {
      hint: `${of}(id, { reason: 'a training sale' })`,
      context: { option: 'reason' },
    },
  )
}

/** Text that a column can hold: PostgreSQL's text has no NUL, and half of a surrogate pair is no character. */
export function isPostable(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0')
}

/** @throws ERR_OPTION */
export function whole(option: string, value: unknown, from: number, to = Number.MAX_SAFE_INTEGER): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= from && value <= to) return value
  throw bad(option, to === Number.MAX_SAFE_INTEGER ? `a whole number from ${from} up` : `a whole number from ${from} to ${to}`, value)
}

/** Only what is not given has a default: `null`, as from a configuration with an empty field, is a wrong value like others. */
export function unlessGiven<T>(value: T | undefined, otherwise: T): T {
  return value === undefined ? otherwise : value
}

/** Rows that one call lists at most. */
const MOST_LISTED = 1_000

/**
 * How many rows a list is to have. More than it can have is an error: who asks for more would take what comes for all that there is.
 *
 * @throws ERR_OPTION
 */
export function readLimit(limit: unknown, otherwise: number, most = MOST_LISTED): number {
  return whole('limit', unlessGiven(limit, otherwise), 1, most)
}

function checkSignal(signal: unknown): void {
  const { aborted, addEventListener } = (signal ?? {}) as Partial<AbortSignal>
  if (signal !== undefined && (typeof aborted !== 'boolean' || typeof addEventListener !== 'function')) throw bad('signal', 'an AbortSignal', signal)
}

/** @throws ERR_OPTION */
export function checkFlag(option: string, flag: unknown): void {
  if (flag !== undefined && typeof flag !== 'boolean') throw bad(option, 'true or false', flag)
}

/** One that may be left out. */
export function checkFunction(option: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function') throw bad(option, 'a function, or left out', value)
}

/** A list, a Map, a Date, a Promise that nobody awaited or an AbortSignal has no names that could be wrong, and would be taken for an object without any. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return Object.prototype.toString.call(value) === '[object Object]'
}

/** @throws ERR_OPTION where it is no object of options, where there is an option that nobody reads, and where `signal` or `onProgress`, which are the same everywhere, is none */
export function known(option: string, given: unknown, names: readonly string[]): void {
  if (!isRecord(given)) {
    throw new TillsyncError('ERR_OPTION', `Expected \`${option}\` to be an object, got ${given === null ? 'null' : typeof given}`, {
      hint: `Known here: ${names.join(', ')}.`,
      context: { option },
    })
  }
  const other = Object.keys(given).find((name) => !names.includes(name))
  if (other !== undefined) {
    throw new TillsyncError('ERR_OPTION', `\`${option}.${other}\` is not an option`, {
      hint: `Known here: ${names.join(', ')}.`,
      context: { option: other },
    })
  }
  const { signal, onProgress } = given as { readonly signal?: unknown; readonly onProgress?: unknown }
  if (names.includes('signal')) checkSignal(signal)
  if (names.includes('onProgress') && onProgress !== undefined && typeof onProgress !== 'function')
    throw bad('onProgress', 'a function that is told how far it has come', onProgress)
}

export function checkDatabase(database: unknown, expected: string): void {
  if (typeof database !== 'object' || database === null || !('dialect' in database)) throw bad('database', expected, database)
}

export function bad(option: string, expected: string, got: unknown): TillsyncError {
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
  if (!isRecord(attributes)) throw bad('attributes', "an object such as { priceGroup: 'A' }", attributes)
  for (const [name, value] of Object.entries(attributes))
    if (!(value === null || (typeof value === 'string' && isPostable(value)) || typeof value === 'boolean' || Number.isFinite(value)))
      throw bad(`attributes.${name}`, 'text, a number, a boolean or null', value)
  return attributes as Attributes
}
