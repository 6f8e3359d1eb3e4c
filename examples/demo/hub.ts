import { randomBytes } from 'node:crypto'
import { type RegisterName, TillsyncError } from '../../src/index.ts'
import { natsConfiguration, provisionNats } from '../../src/transport/nats.ts'
import { type Nats, natsProgram, startNats } from '../support/nats.ts'
import type { NatsWay } from './messages.ts'

/** The NATS server between the tills and head office, where they speak by letters: an account for each. */
export interface Hub {
  readonly port: number
  readonly central: NatsWay
  /** As whom a till connects, by a line of its own. */
  till(register: string, port: number): NatsWay
  stop(): Promise<void>
}

/** @throws ERR_LINK where there is no nats-server on this machine */
export async function checkNats(): Promise<void> {
  if ((await natsProgram()) !== undefined) return
  const hint = 'Debian has it: apt-get install nats-server. Elsewhere: https://nats.io/download.'
  throw new TillsyncError('ERR_LINK', '--link nats needs a nats-server, and there is none on this machine', { hint })
}

/** @param names the register's name alone says which till it is */
export async function openHub(names: readonly RegisterName[]): Promise<Hub> {
  await checkNats()
  const passwords = new Map(['central', ...names.map(({ register }) => register)].map((user) => [user, randomBytes(16).toString('hex')]))
  const login = (user: string) => ({ user, password: passwords.get(user) ?? '' })
  const accounts = names.map((name) => ({ ...name, ...login(name.register) }))
  const server: Nats = await startNats({ configuration: natsConfiguration({ central: login('central'), registers: accounts }) })
  const central: NatsWay = { type: 'nats', servers: server.url, credentials: login('central') }
  try {
    await provisionNats({ servers: central.servers, credentials: central.credentials, registers: names })
  } catch (error) {
    await server.stop()
    throw error
  }
  return {
    port: server.port,
    central,
    till: (register, port) => ({ type: 'nats', servers: `nats://127.0.0.1:${port}`, credentials: login(register) }),
    stop: () => server.stop(),
  }
}
