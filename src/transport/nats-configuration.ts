import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { known } from '../options.ts'
import { misused } from './nats-options.ts'
import { checkRegister, idOf, subjectToCentral, TO_REGISTERS } from './nats-subjects.ts'

/** As whom one connects: with a password (as it is, or as `nats server passwd` made a bcrypt of it), or with the public half of an nkey, `U…`, so that no secret stands in the file. */
export type NatsUser = { readonly user: string; readonly password: string } | { readonly nkey: string }

export interface NatsConfigurationOptions {
  /** Central's workers, and `provisionNats()`. */
  readonly central: NatsUser
  readonly registers: readonly (RegisterName & NatsUser)[]
}

/**
 * The accounts for a NATS server's configuration (2.9 or later), to be included there: one for central, in which the streams are, and one for each register, which can reach nothing of that but to lay
 * letters under its own subject, fetch those that are for it, and acknowledge them. It stands for all registers: write it anew when one comes or goes, and have the server reload it.
 *
 * A register has an account rather than a user in central's: there it could name any subject for the server's answer to go to, and so have messages laid under another register's subject, or a
 * stream emptied; between accounts answers go to him who asked only.
 *
 * @throws ERR_OPTION
 */
export function natsConfiguration(options: NatsConfigurationOptions): string {
  if (typeof options !== 'object' || options === null) throw misused('natsConfiguration', 'options', options)
  known('natsConfiguration', options, ['central', 'registers'])
  const { central, registers } = options
  if (!Array.isArray(registers)) throw misused('natsConfiguration', 'registers: [{ location, register, user, password }]', registers)
  const users = [central, ...registers].map(readUser)
  checkUnique(users.map((user) => ('nkey' in user ? user.nkey : user.user)))
  for (const register of registers) checkRegister(register)
  checkUnique(registers.map(idOf))
  const accounts = registers.map((register, at) => registerAccount(register, users[at + 1] as NatsUser))
  return ['accounts {', centralAccount(users[0] as NatsUser, registers), ...accounts, '}', ''].join('\n')
}

const CENTRAL_ACCOUNT = 'TILLSYNC'

function centralAccount(user: NatsUser, registers: readonly RegisterName[]): string {
  const accounts = `[${registers.map((register) => quoted(accountOf(register))).join(', ')}]`
  const [send, ...others] = servicesOf('*', 'tillsync.to-central.*.*.*').map(
    ({ subject, streams }) => `      { service: ${quoted(subject)}${streams ? ', response: stream' : ''}, accounts: ${accounts} }`,
  )
  const exports = registers.length === 0 ? [] : ['    exports: [', send, ...others, '    ]']
  return [`  ${quoted(CENTRAL_ACCOUNT)} {`, '    jetstream: enabled', `    users: [ { ${userOf(user)} } ]`, ...exports, '  }'].join('\n')
}

function registerAccount(register: RegisterName, user: NatsUser): string {
  const services = servicesOf(idOf(register), subjectToCentral(register)).map(({ subject }) => quoted(subject))
  const permissions = `permissions: { publish: { allow: [${services.join(', ')}] }, subscribe: { allow: ["_INBOX.>"] } }`
  return [
    `  ${quoted(accountOf(register))} {`,
    `    users: [ { ${userOf(user)}, ${permissions} } ]`,
    '    imports: [',
    ...services.map((subject) => `      { service: { account: ${quoted(CENTRAL_ACCOUNT)}, subject: ${subject} } }`),
    '    ]',
    '  }',
  ].join('\n')
}

/** All that a register does: send, fetch, acknowledge. */
function servicesOf(consumer: string, sending: string): readonly { readonly subject: string; readonly streams?: true }[] {
  return [
    { subject: sending },
    { subject: `$JS.API.CONSUMER.MSG.NEXT.${TO_REGISTERS}.${consumer}`, streams: true },
    { subject: `$JS.ACK.${TO_REGISTERS}.${consumer}.>` },
  ]
}

function accountOf(register: RegisterName): string {
  return `TILLSYNC-${idOf(register)}`
}

function userOf(user: NatsUser): string {
  return 'nkey' in user ? `nkey: ${quoted(user.nkey)}` : `user: ${quoted(user.user)}, password: ${quoted(user.password)}`
}

function readUser(given: NatsUser): NatsUser {
  const { user, password, nkey } = (typeof given === 'object' && given !== null ? given : {}) as Record<string, unknown>
  if (typeof nkey === 'string' && /^U[A-Z2-7]{55}$/.test(nkey) && user === undefined && password === undefined) return { nkey }
  if (isText(user) && isText(password) && nkey === undefined) return { user, password }
  throw new TillsyncError('ERR_OPTION', 'natsConfiguration needs for central and each register `user` and `password`, or `nkey`', {
    hint: 'An nkey is the public half, U and 55 more characters; user and password are text without control characters.',
  })
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !/\p{Cc}/u.test(value) && value.isWellFormed()
}

function checkUnique(names: readonly string[]): void {
  const seen = new Set<string>()
  const twice = names.find((name) => seen.size === seen.add(name).size)
  if (twice !== undefined)
    throw new TillsyncError('ERR_OPTION', `natsConfiguration got two of the name ${twice}`, {
      hint: 'Each user and each register stands there once.',
    })
}

/** As the server's configuration has text: within double quotes nothing but these two means anything. */
function quoted(text: string): string {
  return `"${text.replace(/["\\]/g, '\\$&')}"`
}
