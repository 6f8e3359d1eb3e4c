import { type Consumer, type ConsumerInfo, type ConsumerMessages, type JetStreamClient, type JsMsg, jetstream } from '@nats-io/jetstream'
import { millis, type NatsConnection } from '@nats-io/transport-node'
import { TillsyncError } from '../errors.ts'
import type { Letter, ReceiveOptions } from '../ports.ts'
import { unlessAborted } from './abortable.ts'
import { natsError } from './nats-errors.ts'

export interface Fetching {
  readonly stream: string
  /** Durable consumers: each gives its letters in order. */
  readonly consumers: readonly string[]
  /** How many letters are asked for at a time, of each consumer. */
  readonly atOnce: number
  readonly timeoutMs: number
  /** How long the server waits for an acknowledgement. Undefined: it is asked; a register may not ask. */
  readonly ackWaitMs?: number
}

/** How long the server keeps a request for letters; the next one follows. */
const EXPIRES_MS = 30_000
/** No more are asked for while so many wait here to be taken: another worker may have nothing to do. */
const ENOUGH = 8
const PAUSE_MS = { least: 1_000, most: 30_000 }

/**
 * The letters of consumers, as they come, each until it is acknowledged or released. While one is here the server is told so, so that it goes to nobody else; what was not taken when it ends is given back.
 *
 * @throws ERR_LINK where the connection is lost, or a consumer is not there
 */
export async function* lettersOf(
  connection: NatsConnection,
  fetching: Fetching,
  { signal }: ReceiveOptions,
): AsyncGenerator<{ letter: Letter; subject: string }> {
  const desk = new Desk()
  const js = jetstream(connection, { timeout: fetching.timeoutMs })
  const end = () => desk.end()
  signal.addEventListener('abort', end, { once: true })
  let beat: NodeJS.Timeout | undefined
  try {
    const consumers = await unlessAborted(Promise.all(fetching.consumers.map((name) => found(js, fetching, name))), signal)
    const [shortest = 0] = consumers.map(({ ackWaitMs }) => ackWaitMs).sort((a, b) => a - b)
    beat = setInterval(() => desk.hold(), Math.max(100, shortest / 3))
    for (const { consumer } of consumers) fetchAll(consumer, fetching, desk).catch((error) => desk.end(error))
    connection.closed().then(() => desk.end(new TillsyncError('ERR_LINK', 'The connection to the NATS server was lost', { retryable: true })))
    if (signal.aborted) desk.end()
    yield* desk.letters()
  } catch (thrown) {
    throw natsError(thrown, 'Letters could not be fetched')
  } finally {
    signal.removeEventListener('abort', end)
    clearInterval(beat)
    desk.end()
    desk.giveBack()
  }
}

async function found(js: JetStreamClient, { stream, ackWaitMs }: Fetching, name: string): Promise<{ consumer: Consumer; ackWaitMs: number }> {
  if (ackWaitMs !== undefined)
    return { consumer: js.consumers.getConsumerFromInfo({ stream_name: stream, name, config: {} } as ConsumerInfo), ackWaitMs }
  const consumer = await js.consumers.get(stream, name)
  const { config } = await consumer.info(true)
  return { consumer, ackWaitMs: millis(config.ack_wait ?? 0) }
}

async function fetchAll(consumer: Consumer, { atOnce, timeoutMs }: Fetching, desk: Desk): Promise<void> {
  // Two that stay away are a server that has forgotten the request.
  const idle_heartbeat = Math.min(timeoutMs, EXPIRES_MS) / 2
  while (await desk.hasRoom()) {
    const messages = await consumer.fetch({ max_messages: atOnce, expires: EXPIRES_MS, idle_heartbeat })
    const forget = desk.endsWith(messages)
    for await (const message of messages) desk.put(message)
    forget()
  }
}

/** Where letters lie that were fetched and not taken yet, and the names of those that are open. */
class Desk {
  private readonly waiting: JsMsg[] = []
  private readonly open = new Set<JsMsg>()
  private readonly requests = new Set<ConsumerMessages>()
  private ended: { readonly error?: unknown } | undefined
  private news = Promise.withResolvers<void>()

  put(message: JsMsg): void {
    if (this.ended) {
      quietly(() => message.nak())
      return
    }
    this.waiting.push(message)
    this.open.add(message)
    this.tell()
  }

  async *letters(): AsyncGenerator<{ letter: Letter; subject: string }> {
    for (;;) {
      if (this.ended?.error !== undefined) throw this.ended.error
      if (this.ended) return
      const message = this.waiting.shift()
      if (message === undefined) {
        await this.news.promise
        continue
      }
      this.tell()
      yield { letter: this.letter(message), subject: message.subject }
    }
  }

  /** Waits until there is; false where it has ended. */
  async hasRoom(): Promise<boolean> {
    while (!this.ended && this.waiting.length >= ENOUGH) await this.news.promise
    return this.ended === undefined
  }

  endsWith(messages: ConsumerMessages): () => void {
    this.requests.add(messages)
    if (this.ended) messages.close()
    return () => void this.requests.delete(messages)
  }

  /** The server waits on for what is open. */
  hold(): void {
    for (const message of this.open) quietly(() => message.working())
  }

  end(error?: unknown): void {
    if (this.ended) return
    this.ended = { error }
    for (const messages of this.requests) messages.close()
    this.tell()
  }

  /** Another one who waits for letters gets them at once; where nobody does, nats-server 2.9 keeps them until their time is over. */
  giveBack(): void {
    for (const message of this.waiting.splice(0)) quietly(() => message.nak())
  }

  private letter(message: JsMsg): Letter {
    const settle = async (how: () => void) => {
      if (this.open.delete(message)) quietly(how)
    }
    return {
      message: message.data,
      acknowledge: () => settle(() => message.ack()),
      release: () => settle(() => message.nak(Math.min(PAUSE_MS.least * 2 ** (message.info.deliveryCount - 1), PAUSE_MS.most))),
    }
  }

  private tell(): void {
    this.news.resolve()
    this.news = Promise.withResolvers<void>()
  }
}

/** Without a connection nothing can be said; the letter comes again by itself. */
function quietly(say: () => void): void {
  try {
    say()
  } catch {
    return
  }
}
