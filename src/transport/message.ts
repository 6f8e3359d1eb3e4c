import { TillsyncError } from '../errors.ts'
import {
  type AudienceAnswer,
  type AudienceRequest,
  type Batch,
  type DocumentName,
  LEAST_TAKEN,
  MAX_NAME,
  MOST_AGAIN,
  MOST_ANCESTORS,
  MOST_PARKED,
  MOST_POINTS,
  type Publication,
  type RegisterName,
  type Standing,
  type Subscription,
  type Takes,
} from '../model.ts'
import { answerFromWire, requestFromWire, requestToWire } from './audience-wire.ts'
import { batchFromWire } from './batch-wire.ts'
import { comparedFromWire, comparedToWire, compareFromWire, compareToWire } from './compare-wire.ts'
import { count, digest, list, malformed, object, point, pointToWire, stored, text, tuple } from './fields.ts'
import { sentBackFromWire, sentBackToWire, takenBackFromWire, takenBackToWire } from './return-wire.ts'

/** The version of the protocol that this library speaks. */
export const PROTOCOL_VERSION = 1

/** What one side says to the other in an exchange. */
export interface Message {
  readonly from: RegisterName | 'central'
  /** Whom central means, where it starts the exchange. */
  readonly to?: RegisterName | undefined
  /** Random. */
  readonly id: string
  /** How long the answer may be held back where there is nothing to say, in milliseconds. */
  readonly wait?: number | undefined
  /** The id of the message that this one answers. */
  readonly answers?: string | undefined
  readonly publish?: Publication | undefined
  readonly subscribe?: Subscription | undefined
  /** The next of the stream that `publish` speaks of. */
  readonly batch?: Batch | undefined
  /** What the sender takes at most. */
  readonly takes?: Takes | undefined
  /** What a register asks for of what central publishes. */
  readonly audiences?: AudienceRequest | undefined
  /** What central publishes for the register. */
  readonly published?: AudienceAnswer | undefined
  readonly error?: MessageError | undefined
  /** Why questions, answers and remarks in it could not be read: they are left out, for nothing else is to stand behind them. */
  readonly unread?: readonly TillsyncError[] | undefined
}

/** A message to be sent: what is long was packed before, a batch while an earlier one was on its way. */
export type OutgoingMessage = Omit<Message, 'batch' | 'published' | 'unread'> & {
  readonly batch?: Uint8Array | undefined
  readonly published?: Uint8Array | undefined
}

export interface MessageError {
  readonly code: string
  readonly message: string
  readonly retryable: boolean
}

/**
 * A message as it goes over the wire; its batch is packed by itself, see `batchToWire`.
 */
export function toWire(message: OutgoingMessage): unknown {
  const { from, to, id, wait, answers, publish, subscribe, batch, takes, audiences, published, error } = message
  return {
    v: PROTOCOL_VERSION,
    from: from === 'central' ? from : nameToWire(from),
    ...(to && { to: nameToWire(to) }),
    id,
    ...(wait !== undefined && { wait }),
    ...(answers !== undefined && { answers }),
    ...(publish && { publish: publicationToWire(publish) }),
    ...(subscribe && { subscribe: subscriptionToWire(subscribe) }),
    ...(batch && { batch }),
    ...(takes && { takes: [takes.message, takes.document] }),
    ...(audiences && { audiences: requestToWire(audiences) }),
    ...(published && { published }),
    ...(error && { error }),
  }
}

/** What callers pass may hold more than a name. */
function nameToWire({ location, register }: RegisterName): RegisterName {
  return { location, register }
}

function publicationToWire({ epoch, head, version, parent, start, seek, ancestors, cloned, parked, compared, back }: Publication): unknown {
  return {
    epoch,
    head,
    ...(version !== undefined && { version }),
    ...(parent && { parent: pointToWire(parent) }),
    ...(start && { start: pointToWire(start) }),
    ...(seek && { seek }),
    ...(ancestors && { ancestors }),
    ...(cloned && { cloned }),
    ...(parked && { parked: parked.map(nameOf) }),
    ...(compared && { compared: comparedToWire(compared) }),
    ...(back && { back: takenBackToWire(back) }),
  }
}

function subscriptionToWire({ standing, staged, known, superseded, points, quarantined, again, compare, back }: Subscription): unknown {
  return {
    ...(standing && { standing: [standing.epoch, ...pointToWire(standing)] }),
    ...(staged && { staged: pointToWire(staged) }),
    ...(known && { known }),
    ...(superseded && { superseded: pointToWire(superseded) }),
    ...(points && { points: points.map(pointToWire) }),
    ...(again && { again: again.map(nameOf) }),
    ...(quarantined !== undefined && { quarantined }),
    ...(compare && { compare: compareToWire(compare) }),
    ...(back && { back: sentBackToWire(back) }),
  }
}

function nameOf({ table, recordId }: DocumentName): readonly [string, string] {
  return [table, recordId]
}

/**
 * What another version means by a message is unknown: nothing of it is read before this.
 *
 * @throws ERR_VERSION, ERR_MESSAGE
 */
export function checkVersion(wire: unknown): void {
  const { v } = object(wire, 'message')
  if (v === PROTOCOL_VERSION) return
  throw new TillsyncError(
    'ERR_VERSION',
    `The message is of protocol version ${typeof v === 'number' ? v : 'unknown'}, this side speaks ${PROTOCOL_VERSION}`,
    { hint: 'Update the older side.' },
  )
}

/** Reads what is beside the streams; undefined where it can't be read, which is noted. */
type Aside = <T>(value: unknown, read: (value: unknown) => T) => T | undefined

/**
 * A message from the wire, its version checked, its batch and what is published in it unpacked. Every field is checked; what the checks cost is
 * bounded by the size of the message. Of the history and its batch each must be as the protocol has it; what is beside them is left out where it is not.
 *
 * @throws ERR_MESSAGE
 */
export function fromWire(wire: unknown, batch: unknown, published: () => unknown): Message {
  const fields = object(wire, 'message')
  const unread: TillsyncError[] = []
  const aside: Aside = (value, read) => {
    try {
      return optional(value, read)
    } catch (error) {
      if (!(error instanceof TillsyncError)) throw error
      unread.push(error)
      return undefined
    }
  }
  const publish = optional(fields.publish, (value) => publication(value, aside))
  const sent = batch === undefined ? undefined : batchFromWire(batch)
  if (sent !== undefined && sent.epoch !== publish?.epoch) throw malformed('batch')
  return {
    from: fields.from === 'central' ? 'central' : registerName(fields.from, 'from'),
    to: optional(fields.to, (value) => registerName(value, 'to')),
    id: text(fields.id, 'id', 64),
    wait: optional(fields.wait, (value) => count(value, 'wait')),
    answers: optional(fields.answers, (value) => text(value, 'answers', 64)),
    publish,
    subscribe: optional(fields.subscribe, (value) => subscription(value, aside)),
    ...(sent && { batch: sent }),
    takes: optional(fields.takes, takes),
    audiences: aside(fields.audiences, requestFromWire),
    published: aside(fields.published, () => answerFromWire(published())),
    ...(fields.error !== undefined && { error: messageError(fields.error) }),
    ...(unread.length > 0 && { unread }),
  }
}

function takes(wire: unknown): Takes {
  const [message, document] = tuple(wire, 'takes', 2).map((bytes) => count(bytes, 'takes')) as [number, number]
  // Less can't be set: who says it would have everything parked.
  if (message < LEAST_TAKEN || document < LEAST_TAKEN) throw malformed('takes')
  return { message, document }
}

function optional<T>(value: unknown, read: (value: unknown) => T): T | undefined {
  return value === undefined ? undefined : read(value)
}

function publication(wire: unknown, aside: Aside): Publication {
  const fields = object(wire, 'publish')
  const parked = aside(fields.parked, (value) => bounded(value, 'parked', MOST_PARKED).map((one) => documentName(one, 'parked')))
  const compared = aside(fields.compared, comparedFromWire)
  const unread = Object.entries({ parked, compared }).flatMap(([name, read]) => (read === undefined && fields[name] !== undefined ? [name] : []))
  return {
    epoch: text(fields.epoch, 'epoch', 64),
    head: count(fields.head, 'head'),
    version: aside(fields.version, (value) => stored(value, 'version', 64)),
    parent: optional(fields.parent, (value) => point(value, 'parent')),
    start: optional(fields.start, (value) => point(value, 'start')),
    seek: optional(fields.seek, seek),
    ancestors: optional(fields.ancestors, (value) => bounded(value, 'ancestors', MOST_ANCESTORS).map((one) => text(one, 'ancestors', 64))),
    cloned: optional(fields.cloned, (value) => mark(value, 'cloned')),
    parked,
    compared,
    back: aside(fields.back, takenBackFromWire),
    ...(unread.length > 0 && { unread: new Set(unread as (keyof Publication)[]) }),
  }
}

function mark(value: unknown, field: string): true {
  if (value !== true) throw malformed(field)
  return true
}

function seek(wire: unknown): readonly [number, number] {
  const [after, before] = tuple(wire, 'seek', 2)
  return [count(after, 'seek'), count(before, 'seek')]
}

function subscription(wire: unknown, aside: Aside): Subscription {
  const fields = object(wire, 'subscribe')
  return {
    standing: optional(fields.standing, standing),
    staged: optional(fields.staged, (value) => point(value, 'staged')),
    known: optional(fields.known, (value) => mark(value, 'known')),
    superseded: optional(fields.superseded, (value) => point(value, 'superseded')),
    points: optional(fields.points, (value) => bounded(value, 'points', MOST_POINTS).map((one) => point(one, 'points'))),
    again: aside(fields.again, (value) => bounded(value, 'again', MOST_AGAIN).map((one) => documentName(one, 'again'))),
    quarantined: aside(fields.quarantined, (value) => count(value, 'quarantined')),
    compare: aside(fields.compare, compareFromWire),
    back: aside(fields.back, sentBackFromWire),
  }
}

function documentName(wire: unknown, field: string): DocumentName {
  const [table, recordId] = tuple(wire, field, 2)
  return { table: text(table, field, MAX_NAME), recordId: text(recordId, field, Number.POSITIVE_INFINITY) }
}

function bounded(wire: unknown, field: string, most: number): readonly unknown[] {
  const items = list(wire, field)
  if (items.length > most) throw malformed(field)
  return items
}

function registerName(wire: unknown, field: string): RegisterName {
  const fields = object(wire, field)
  return { location: text(fields.location, field, MAX_NAME), register: text(fields.register, field, MAX_NAME) }
}

function standing(wire: unknown): Standing {
  const [epoch, entryNo, at] = tuple(wire, 'standing', 3)
  return { epoch: text(epoch, 'standing', 64), entryNo: count(entryNo, 'standing'), digest: digest(at, 'standing') }
}

function messageError(wire: unknown): MessageError {
  const fields = object(wire, 'error')
  return { code: text(fields.code, 'error', 64), message: text(fields.message, 'error', 2_000), retryable: fields.retryable === true }
}
