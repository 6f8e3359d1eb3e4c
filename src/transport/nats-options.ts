import type { TlsOptions } from '@nats-io/transport-node'
import { TillsyncError } from '../errors.ts'
import { isRecord, known, whole } from '../options.ts'

/** Who one is to the server: a user with a password, or an nkey, of which the server knows the public half only. Functions are asked at each connection, so that another secret needs no restart. */
export type NatsCredentials =
  | { readonly user: string; readonly password: string | (() => string | Promise<string>) }
  | { readonly seed: string | (() => string | Promise<string>) }

export interface NatsServerOptions {
  /** Where the servers are, e.g. `nats://hub.example.com:4222`, or `tls://…`; of a cluster all of them. */
  readonly servers: string | readonly string[]
  /** Left out where the server lets everybody in. */
  readonly credentials?: NatsCredentials
  /** As @nats-io/transport-node takes it: `{ ca, cert, key }` as PEM, or `{ caFile, certFile, keyFile }`. */
  readonly tls?: TlsOptions
  /** How long a connection, and a word of the server, may take, in milliseconds; a server that is silent for longer counts as away. Default 10,000; from 100 up. */
  readonly timeoutMs?: number
}

export interface ReadServerOptions {
  readonly servers: readonly string[]
  readonly credentials: NatsCredentials | undefined
  readonly tls: TlsOptions | undefined
  readonly timeoutMs: number
}

export const SERVER_OPTIONS = ['servers', 'credentials', 'tls', 'timeoutMs'] as const
const TIMEOUT_MS = 10_000
const LONGEST_MS = 2_147_483_647

/** @throws ERR_OPTION */
export function readServerOptions(asker: string, options: NatsServerOptions, others: readonly string[] = []): ReadServerOptions {
  if (typeof options !== 'object' || options === null) throw misused(asker, 'options', options)
  known(asker, options, [...SERVER_OPTIONS, ...others])
  const { servers, credentials, tls, timeoutMs = TIMEOUT_MS } = options
  const list = typeof servers === 'string' ? [servers] : servers
  if (!Array.isArray(list) || list.length === 0 || !list.every(isServer)) throw misused(asker, 'servers, e.g. nats://127.0.0.1:4222', servers)
  if (credentials !== undefined && !isCredential(credentials)) throw misused(asker, 'credentials: { user, password } or { seed }', credentials)
  if (tls !== undefined && (typeof tls !== 'object' || tls === null)) throw misused(asker, 'tls: { ca, cert, key }', tls)
  return { servers: list, credentials, tls, timeoutMs: whole('timeoutMs', timeoutMs, 100, LONGEST_MS) }
}

function isServer(server: unknown): boolean {
  if (typeof server !== 'string' || server === '') return false
  // Secrets in an address end up in logs; there is a place for them.
  return /^(nats|tls):\/\/[^@/\s]+$/.test(server) || /^[^@/\s]+$/.test(server)
}

function isCredential(given: unknown): given is NatsCredentials {
  if (!isRecord(given)) return false
  const isSecret = (secret: unknown) => (typeof secret === 'string' && secret !== '') || typeof secret === 'function'
  const { user, password, seed } = given
  return seed === undefined
    ? typeof user === 'string' && user !== '' && isSecret(password)
    : user === undefined && password === undefined && isSecret(seed)
}

/** What came is not shown where it may be a secret. */
export function misused(asker: string, expected: string, got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `${asker} needs ${expected}; got ${got === '' ? "''" : got === null ? 'null' : typeof got}`, {
    hint: `${asker}({ servers: 'nats://hub.example.com:4222', credentials: { user, password }, … })`,
  })
}
