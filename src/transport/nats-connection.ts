import { connect, type NatsConnection, nkeyAuthenticator, usernamePasswordAuthenticator } from '@nats-io/transport-node'
import { messageOf, TillsyncError } from '../errors.ts'
import { askHost } from './abortable.ts'
import { natsError } from './nats-errors.ts'
import type { NatsCredentials, ReadServerOptions } from './nats-options.ts'

/** What a server takes that says nothing else: NATS' own default of max_payload. */
const USUAL_PAYLOAD = 1_048_576
/** Room for what goes with a message: its id, as a header. */
const HEADER_BYTES = 512
/** A connection that is half open is noticed after twice so long. */
const PING_MS = 20_000
/** How long the end of a connection may take. */
const CLOSING_MS = 2_000

/**
 * A connection that is made when it is needed, and anew when it was lost: whoever needs it tries again, with pauses of his own, for as long as he likes. The client's own reconnecting is not used: it would
 * end after refused credentials, and hide that the server is away.
 */
export class NatsLine {
  private connection: Promise<NatsConnection> | undefined
  private payload = USUAL_PAYLOAD
  private readonly options: ReadServerOptions

  constructor(options: ReadServerOptions) {
    this.options = options
  }

  /** The largest message that the server takes; before the first connection what it most likely does. */
  get maxBytes(): number {
    return this.payload - HEADER_BYTES
  }

  /** @throws ERR_LINK, ERR_CREDENTIAL */
  async open(): Promise<NatsConnection> {
    if (this.connection !== undefined) return this.connection
    const connecting = this.connect()
    this.connection = connecting
    const forget = () => {
      if (this.connection === connecting) this.connection = undefined
    }
    connecting.then((connection) => connection.closed()).then(forget, forget)
    return connecting
  }

  /** What is under way is sent before it ends. */
  async close(): Promise<void> {
    const connection = await this.connection?.catch(() => undefined)
    if (connection === undefined) return
    const late = Promise.withResolvers<void>()
    const timer = setTimeout(late.resolve, CLOSING_MS)
    await Promise.race([connection.flush().catch(() => undefined), late.promise])
    clearTimeout(timer)
    await connection.close()
  }

  private async connect(): Promise<NatsConnection> {
    try {
      const { servers, credentials, tls, timeoutMs } = this.options
      const connection = await connect({
        servers: [...servers],
        ...(credentials && { authenticator: await authenticatorOf(credentials) }),
        ...(tls && { tls }),
        name: 'tillsync',
        timeout: timeoutMs,
        reconnect: false,
        pingInterval: PING_MS,
      })
      this.payload = connection.info?.max_payload ?? USUAL_PAYLOAD
      return connection
    } catch (thrown) {
      throw natsError(thrown, 'The NATS server was not reached')
    }
  }
}

async function authenticatorOf(credentials: NatsCredentials): Promise<ReturnType<typeof nkeyAuthenticator>> {
  if ('seed' in credentials) return nkeyAuthenticator(new TextEncoder().encode(await ask(credentials.seed)))
  return usernamePasswordAuthenticator(credentials.user, await ask(credentials.password))
}

async function ask(secret: string | (() => string | Promise<string>)): Promise<string> {
  if (typeof secret === 'string') return secret
  try {
    return await askHost(secret)
  } catch (cause) {
    const hint = 'What threw is the function that was given in `credentials`.'
    throw new TillsyncError('ERR_CREDENTIAL', `There is no secret: ${messageOf(cause)}`, { retryable: true, hint, cause })
  }
}
