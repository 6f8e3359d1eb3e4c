import {
  AckPolicy,
  type ConsumerConfig,
  DeliverPolicy,
  DiscardPolicy,
  JetStreamApiError,
  type JetStreamManager,
  jetstreamManager,
  RetentionPolicy,
  StorageType,
  type StreamConfig,
} from '@nats-io/jetstream'
import { nanos } from '@nats-io/transport-node'
import PQueue from 'p-queue'
import type { RegisterName } from '../model.ts'
import { known, whole } from '../options.ts'
import { NatsLine } from './nats-connection.ts'
import { natsError } from './nats-errors.ts'
import { misused, type NatsServerOptions, readServerOptions } from './nats-options.ts'
import {
  ALL_TO_CENTRAL,
  ALL_TO_REGISTERS,
  checkRegister,
  consumerOfPart,
  idOf,
  PARTS,
  REGISTER_ACK_WAIT_MS,
  REGISTER_OPEN,
  subjectOfPart,
  subjectToRegister,
  TO_CENTRAL,
  TO_REGISTERS,
} from './nats-subjects.ts'

/** How much lies in a stream at most. */
export interface NatsBounds {
  /** Of all registers together, in bytes; the server sets so much of its disk aside. Default 1,073,741,824; from 1,048,576 up. */
  readonly maxBytes?: number
  /** Of one register. Default 256; from 1 up. */
  readonly maxLettersPerRegister?: number
  /** How long a letter lies there, in milliseconds. Default 2,592,000,000 (30 days); from 120,000 up. */
  readonly maxAgeMs?: number
}

export interface NatsProvisionOptions extends NatsServerOptions {
  /** For whom there is to be a consumer; those of others stay as they are. */
  readonly registers: readonly RegisterName[]
  /** What registers have sent and central has not acknowledged. Where it is full, registers are refused with ERR_MAILBOX_FULL, keep their entries and try again. */
  readonly toCentral?: NatsBounds
  /** What central has sent. Where it is full, the oldest go: a register asks again for what it lacks. */
  readonly toRegisters?: NatsBounds
  /** How long the server waits for a letter to be acknowledged by a worker of central who says nothing more, in milliseconds; then another one gets it. A worker that lives says so in time. Default 5,000; from 1,000 to an hour. */
  readonly ackWaitMs?: number
  /** On how many servers of a cluster each letter lies before it counts as sent. Default 1; 1, 3 or 5. */
  readonly replicas?: 1 | 3 | 5
}

const DEFAULTS = { maxBytes: 1_073_741_824, maxLettersPerRegister: 256, maxAgeMs: 30 * 24 * 3_600_000, ackWaitMs: 5_000, replicas: 1 } as const
const CENTURY_MS = 36_525 * 24 * 3_600_000
/** How long the ids of messages are remembered. */
const DUPLICATES_MS = 120_000
/** How many consumers are made at a time. */
const AT_ONCE = 16
const STREAM_EXISTS = 10_058

/**
 * Makes what mailboxes need on the server, with central's account: two streams, and the consumers of central's workers and of each register. What is there already is changed to what the options say, what lies
 * in it stays; it can be run again at any time, also while letters come. It stops at the first thing that the server refuses.
 *
 * @throws ERR_OPTION, ERR_LINK, ERR_CREDENTIAL, ERR_MAILBOX_FULL where the server's disk has no room for the streams
 */
export async function provisionNats(options: NatsProvisionOptions): Promise<void> {
  const plan = readPlan(options)
  const line = new NatsLine(readServerOptions('provisionNats', options, OTHERS))
  const connection = await line.open()
  const queue = new PQueue({ concurrency: AT_ONCE })
  try {
    const manager = await jetstreamManager(connection, { timeout: options.timeoutMs ?? 10_000 })
    for (const stream of plan.streams) await makeStream(manager, stream)
    const making = plan.consumers.map(
      ([stream, consumer]) =>
        async () =>
          void (await manager.consumers.add(stream, consumer)),
    )
    await queue.addAll(making)
  } catch (thrown) {
    queue.clear()
    throw natsError(thrown, 'The NATS server was not set up')
  } finally {
    await line.close()
  }
}

const OTHERS = ['registers', 'toCentral', 'toRegisters', 'ackWaitMs', 'replicas']

interface Plan {
  readonly streams: readonly (Partial<StreamConfig> & { readonly name: string })[]
  readonly consumers: readonly (readonly [stream: string, Partial<ConsumerConfig>])[]
}

function readPlan({ registers, toCentral, toRegisters, ackWaitMs = DEFAULTS.ackWaitMs, replicas = DEFAULTS.replicas }: NatsProvisionOptions): Plan {
  if (!Array.isArray(registers)) throw misused('provisionNats', 'registers: [{ location, register }]', registers)
  for (const register of registers) {
    if (typeof register !== 'object' || register === null) throw misused('provisionNats', 'registers: [{ location, register }]', register)
    checkRegister(register)
  }
  if (![1, 3, 5].includes(replicas)) throw misused('provisionNats', 'replicas: 1, 3 or 5', replicas)
  const wait = whole('ackWaitMs', ackWaitMs, 1_000, 3_600_000)
  const acknowledged = {
    ack_policy: AckPolicy.Explicit,
    deliver_policy: DeliverPolicy.All,
    max_deliver: -1,
    num_replicas: replicas,
  }
  return {
    streams: [
      {
        ...streamOf('toCentral', toCentral, replicas),
        name: TO_CENTRAL,
        subjects: [ALL_TO_CENTRAL],
        discard: DiscardPolicy.New,
        discard_new_per_subject: true,
      },
      { ...streamOf('toRegisters', toRegisters, replicas), name: TO_REGISTERS, subjects: [ALL_TO_REGISTERS], discard: DiscardPolicy.Old },
    ],
    consumers: [
      // One letter at a time: the next of the same register is for nobody before this one is done.
      ...Array.from({ length: PARTS }, (_, part) =>
        consumer(TO_CENTRAL, {
          ...acknowledged,
          durable_name: consumerOfPart(part),
          filter_subject: subjectOfPart(part),
          ack_wait: nanos(wait),
          max_ack_pending: 1,
        }),
      ),
      ...registers.map((register) =>
        consumer(TO_REGISTERS, {
          ...acknowledged,
          durable_name: idOf(register),
          filter_subject: subjectToRegister(register),
          ack_wait: nanos(REGISTER_ACK_WAIT_MS),
          max_ack_pending: REGISTER_OPEN,
        }),
      ),
    ],
  }
}

function consumer(stream: string, config: Partial<ConsumerConfig>): readonly [string, Partial<ConsumerConfig>] {
  return [stream, config]
}

function streamOf(option: string, bounds: NatsBounds = {}, replicas: number): Partial<StreamConfig> {
  if (typeof bounds !== 'object' || bounds === null) throw misused('provisionNats', `${option}: { maxBytes, … }`, bounds)
  known(option, bounds, ['maxBytes', 'maxLettersPerRegister', 'maxAgeMs'])
  const { maxBytes = DEFAULTS.maxBytes, maxLettersPerRegister = DEFAULTS.maxLettersPerRegister, maxAgeMs = DEFAULTS.maxAgeMs } = bounds
  return {
    // What is acknowledged is gone: it is in the databases.
    retention: RetentionPolicy.Workqueue,
    storage: StorageType.File,
    max_bytes: whole(`${option}.maxBytes`, maxBytes, 1_048_576),
    max_msgs_per_subject: whole(`${option}.maxLettersPerRegister`, maxLettersPerRegister, 1),
    max_age: nanos(whole(`${option}.maxAgeMs`, maxAgeMs, DUPLICATES_MS, CENTURY_MS)),
    duplicate_window: nanos(DUPLICATES_MS),
    num_replicas: replicas,
  }
}

async function makeStream(manager: JetStreamManager, stream: Plan['streams'][number]): Promise<void> {
  try {
    await manager.streams.add(stream)
  } catch (thrown) {
    if (!(thrown instanceof JetStreamApiError) || thrown.code !== STREAM_EXISTS) throw thrown
    await manager.streams.update(stream.name, stream)
  }
}
