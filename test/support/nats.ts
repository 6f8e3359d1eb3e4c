import { randomBytes } from 'node:crypto'
import type { Test } from 'tap'
import { freePort, type Nats, natsProgram, startNats } from '../../examples/support/nats.ts'
import type { RegisterName } from '../../src/model.ts'
import type { CentralMailbox, Letter, Mailbox, ReceiveOptions } from '../../src/ports.ts'
import {
  centralNatsMailbox,
  type NatsMailboxOptions,
  type NatsProvisionOptions,
  type NatsServerOptions,
  natsConfiguration,
  natsMailbox,
  provisionNats,
} from '../../src/transport/nats.ts'
import { eventually } from './eventually.ts'

export type { Nats }

/** Why tests that need a NATS server are left out here; false where they are not. */
export const noNats: string | false = (await natsProgram()) === undefined && 'there is no nats-server on this machine (apt-get install nats-server)'

/** A hub with an account for central and one for each of the registers, its streams made; it ends with the test. */
export interface Hub {
  readonly servers: readonly Nats[]
  /** As whom central connects. */
  readonly central: NatsServerOptions
  /** As whom a register does. */
  as(register: RegisterName): NatsServerOptions
  mailbox(register: RegisterName): TestMailbox
  centralMailbox(options?: Partial<NatsServerOptions>): CentralMailbox
  /** Makes or changes streams and consumers. */
  provision(options?: Partial<NatsProvisionOptions>): Promise<void>
  /** One more register, while the server runs. */
  add(register: RegisterName): Promise<void>
  /** Leaves the one that was added last out of the server's configuration. */
  removeLast(): Promise<void>
}

export interface HubOptions extends Partial<Omit<NatsProvisionOptions, 'servers' | 'credentials'>> {
  /** What stands in the configuration beside the accounts. */
  readonly configuration?: string
  /** How many servers; more than one are a cluster. */
  readonly size?: number
}

/** @param t whose end ends it */
export async function openHub(t: { teardown(end: () => unknown): unknown }, options: HubOptions = {}): Promise<Hub> {
  const { configuration = '', size = 1, registers: given = [], ...bounds } = options
  const registers = [...given]
  const secret = randomBytes(12).toString('hex')
  const userOf = (register?: RegisterName): { readonly user: string; readonly password: string } => {
    const user = register
      ? `till-${registers.findIndex((one) => one.location === register.location && one.register === register.register)}`
      : 'central'
    return { user, password: `${secret}"\\ $#{ ${user}` }
  }
  const configured = () =>
    `${configuration}\n${natsConfiguration({ central: userOf(), registers: registers.map((register) => ({ ...register, ...userOf(register) })) })}`
  const ports = size > 1 ? await Promise.all(Array.from({ length: size }, freePort)) : []
  const servers = await Promise.all(
    Array.from({ length: size }, (_, at) =>
      startNats({ configuration: configured(), ...(size > 1 && { cluster: { name: `hub-${at}`, port: ports[at] as number, ports } }) }),
    ),
  )
  t.teardown(() => Promise.all(servers.map((server) => server.stop())))
  const as = (register?: RegisterName): NatsServerOptions => ({
    servers: servers.map(({ url }) => url),
    credentials: userOf(register),
  })
  const closing = <M extends { close?(): Promise<void> }>(mailbox: M): M => {
    t.teardown(() => mailbox.close?.())
    return mailbox
  }
  const reload = () => Promise.all(servers.map((server) => server.reload(configured())))
  const hub: Hub = {
    servers,
    central: as(),
    as,
    mailbox: (register) => closing(mailboxOf({ ...as(register), ...register })),
    centralMailbox: (options) => closing(centralNatsMailbox({ ...as(), ...options })),
    provision: (more) => provisionNats({ ...as(), registers, ...bounds, ...more }),
    async add(register) {
      registers.push(register)
      // The first time nats-server 2.9 makes the account, the second time it finds what that may use of central's.
      for (let time = 0; time < 2; time++) await reload()
      await hub.provision()
    },
    async removeLast() {
      registers.pop()
      await reload()
    },
  }
  // A cluster has no leader at once.
  await eventually('the streams are made', () => hub.provision().then(() => true, retryable))
  return hub
}

/** For `eventually`: what may be tried again. */
export function retryable(error: { retryable?: boolean }): false {
  if (error.retryable !== true) throw error
  return false
}

/** The letters of a mailbox as they come, until `end` or the end of the test; with `again` also after the server was away. */
export function listening<L extends Letter>(
  t: Test,
  mailbox: { receive(options: ReceiveOptions): AsyncIterable<L> },
  options: Omit<ReceiveOptions, 'signal'> & { readonly again?: boolean } = {},
): Listening<L> {
  const ended = new AbortController()
  const letters: L[] = []
  const receive = async () => {
    for await (const letter of mailbox.receive({ ...options, signal: ended.signal })) letters.push(letter)
    return true
  }
  const over = (async () => {
    if (options.again) await eventually('it is over', () => receive().catch(retryable), 240_000)
    else await receive()
  })()
  over.catch(() => undefined)
  const end = () => {
    ended.abort()
    return over
  }
  t.teardown(() => end().catch(() => undefined))
  return {
    letters,
    over,
    end,
    async next(withinMs) {
      await Promise.race([eventually('a letter comes', () => letters.length > 0, withinMs), over.then(() => new Promise(() => undefined))])
      return letters.shift() as L
    },
  }
}

export interface Listening<L extends Letter> {
  readonly letters: L[]
  /** How it ended. */
  readonly over: Promise<void>
  next(withinMs?: number): Promise<L>
  end(): Promise<void>
}

/** What is sent here has no id of its own. */
export type TestMailbox = Omit<Mailbox, 'send'> & {
  send(message: Uint8Array, options?: { id?: string; signal?: AbortSignal | undefined }): Promise<void>
}

export function mailboxOf(options: NatsMailboxOptions): TestMailbox {
  const mailbox = natsMailbox(options)
  const send: TestMailbox['send'] = (message, more) => mailbox.send(message, { id: 'x', ...more })
  return Object.defineProperty({ ...mailbox, send }, 'maxBytes', { get: () => mailbox.maxBytes })
}

/** As the client itself takes them. */
export function rawOptions({ servers, credentials }: NatsServerOptions): { servers: string[]; user: string; pass: string } {
  const { user, password } = credentials as { user: string; password: string }
  return { servers: [servers].flat(), user, pass: password }
}

export function textOf({ message }: Letter): string {
  return Buffer.from(message).toString()
}

export function bytesOf(text: string): Uint8Array {
  return Buffer.from(text)
}
