import { createHash } from 'node:crypto'
import { jetstream } from '@nats-io/jetstream'
import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { CentralMailbox, Letter, Mailbox, ReceiveOptions } from '../ports.ts'
import { unlessAborted } from './abortable.ts'
import { NatsLine } from './nats-connection.ts'
import { natsError, tooLarge } from './nats-errors.ts'
import { lettersOf } from './nats-letters.ts'
import { type NatsServerOptions, readServerOptions } from './nats-options.ts'
import {
  checkRegister,
  consumerOfPart,
  idOf,
  PARTS,
  REGISTER_ACK_WAIT_MS,
  REGISTER_OPEN,
  senderOf,
  subjectToCentral,
  subjectToRegister,
  TO_CENTRAL,
  TO_REGISTERS,
} from './nats-subjects.ts'

export { type NatsConfigurationOptions, type NatsUser, natsConfiguration } from './nats-configuration.ts'
export type { NatsCredentials, NatsServerOptions } from './nats-options.ts'
export { type NatsBounds, type NatsProvisionOptions, provisionNats } from './nats-provision.ts'

export interface NatsMailboxOptions extends NatsServerOptions, RegisterName {}

/**
 * A register's mailbox on a NATS server with JetStream, which neither side needs to be reached for. The register has its own subjects only: its account is made by `natsConfiguration()`, its consumer by
 * `provisionNats()`. A message is sent when the server has stored it; one that was stored already (within two minutes) is not stored again.
 *
 * @throws ERR_OPTION
 */
export function natsMailbox(options: NatsMailboxOptions): Mailbox {
  const server = readServerOptions('natsMailbox', options, ['location', 'register'])
  const { location, register } = options
  const name = { location, register }
  checkRegister(name)
  const line = new NatsLine(server)
  const fetching = {
    stream: TO_REGISTERS,
    consumers: [idOf(name)],
    atOnce: REGISTER_OPEN,
    ackWaitMs: REGISTER_ACK_WAIT_MS,
    timeoutMs: server.timeoutMs,
  }
  return {
    get maxBytes() {
      return line.maxBytes
    },
    send: (message, { signal }) => publish(line, subjectToCentral(name), message, server.timeoutMs, signal),
    async *receive(options) {
      for await (const { letter } of lettersOf(await unlessAborted(line.open(), options.signal), fetching, options)) yield letter
    },
    close: () => line.close(),
  }
}

/**
 * Central's mailbox on a NATS server with JetStream. Any number of processes may share it: each letter goes to one of them, and to another where that one dies before it is acknowledged, `ackWaitMs`
 * of `provisionNats()` later. A register's letters are taken in order.
 *
 * @throws ERR_OPTION
 */
export function centralNatsMailbox(options: NatsServerOptions): CentralMailbox {
  const server = readServerOptions('centralNatsMailbox', options)
  const line = new NatsLine(server)
  const consumers = Array.from({ length: PARTS }, (_, part) => consumerOfPart(part))
  const fetching = { stream: TO_CENTRAL, consumers, atOnce: 1, timeoutMs: server.timeoutMs }
  return {
    get maxBytes() {
      return line.maxBytes
    },
    async send(to, message, { signal } = {}) {
      checkRegister(to)
      await publish(line, subjectToRegister(to), message, server.timeoutMs, signal)
    },
    receive: (options) => signedLetters(line, fetching, options),
    close: () => line.close(),
  }
}

async function* signedLetters(
  line: NatsLine,
  fetching: Parameters<typeof lettersOf>[1],
  options: ReceiveOptions,
): AsyncGenerator<Letter & { readonly from: RegisterName }> {
  for await (const { letter, subject } of lettersOf(await unlessAborted(line.open(), options.signal), fetching, options)) {
    const from = senderOf(subject)
    if (from !== undefined) {
      yield { ...letter, from }
      continue
    }
    const hint = 'Somebody with the account of central has published it; registers can’t.'
    options.onRefused?.(
      new TillsyncError('ERR_MESSAGE', 'A letter lies under a subject that is no register’s', { hint, context: { subject } }),
      undefined,
    )
    await letter.acknowledge()
  }
}

async function publish(line: NatsLine, subject: string, message: Uint8Array, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const connection = await unlessAborted(line.open(), signal)
  if (message.length > line.maxBytes) {
    throw tooLarge(`A message of ${message.length} bytes is larger than the NATS server takes`, { bytes: message.length, takes: line.maxBytes })
  }
  // Messages hold random ids: equal ones under a subject are one that was sent again.
  const msgID = createHash('sha256').update(subject).update('\0').update(message).digest('base64url')
  try {
    await unlessAborted(jetstream(connection).publish(subject, message, { msgID, timeout: timeoutMs }), signal)
  } catch (thrown) {
    throw natsError(thrown, 'The message was not taken')
  }
}
