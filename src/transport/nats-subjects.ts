import { createHash } from 'node:crypto'
import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { checkName } from '../options.ts'

/** The streams: what registers send, and what they are sent. */
export const TO_CENTRAL = 'TILLSYNC_TO_CENTRAL'
export const TO_REGISTERS = 'TILLSYNC_TO_REGISTERS'

/**
 * The registers are divided into so many parts. What one part sends is fetched one letter at a time, whoever asks, so that each register's letters are taken in order though
 * several workers share the stream. It stands in the subjects, and so in the permissions: another number is another layout.
 */
export const PARTS = 32

/** How many of central's letters a register may have open, and how long the server waits for their acknowledgement: a register may not ask the server how its consumer is made. */
export const REGISTER_OPEN = 8
export const REGISTER_ACK_WAIT_MS = 10_000

export const ALL_TO_CENTRAL = 'tillsync.to-central.*.*.*'
export const ALL_TO_REGISTERS = 'tillsync.to-register.*.*'

/** What a register may publish to: this subject and no other. */
export function subjectToCentral(register: RegisterName): string {
  return `tillsync.to-central.${partOf(register)}.${token(register.location)}.${token(register.register)}`
}

/** Where central lays what is for a register. */
export function subjectToRegister({ location, register }: RegisterName): string {
  return `tillsync.to-register.${token(location)}.${token(register)}`
}

export function subjectOfPart(part: number): string {
  return `tillsync.to-central.${part}.*.*`
}

export function consumerOfPart(part: number): string {
  return `part-${part}`
}

/**
 * A register's name as consumer and account: NATS makes folders of them, so it is short, and two names differ on a disk that does not tell upper from lower case too. What is readable
 * of it is for people.
 */
export function idOf(register: RegisterName): string {
  const readable = [register.location, register.register].map((name) => name.replace(/[^A-Za-z0-9]+/g, '').slice(0, 20))
  return [...readable, hashOf(register).toString('hex').slice(0, 20)].join('-')
}

/** Whose letter it is, by its subject; undefined where no register can have sent it. */
export function senderOf(subject: string): RegisterName | undefined {
  const [, , , location, register] = subject.split('.').map(named)
  if (location === undefined || register === undefined) return undefined
  const sender = { location, register }
  return subjectToCentral(sender) === subject ? sender : undefined
}

/** @throws ERR_OPTION where no subject can be made of it */
export function checkRegister({ location, register }: RegisterName): void {
  for (const [option, name] of Object.entries({ location, register })) {
    checkName(option, name)
    if (!name.isWellFormed()) throw new TillsyncError('ERR_OPTION', `Expected \`${option}\` to be text, got half a character in it`)
  }
}

function partOf(register: RegisterName): number {
  return hashOf(register).readUInt32BE(0) % PARTS
}

function hashOf({ location, register }: RegisterName): Buffer {
  return createHash('sha256')
    .update(JSON.stringify([location, register]))
    .digest()
}

/** Dots, spaces and wildcards mean something in a subject, and not every server takes other letters than ASCII's: all but letters, digits, - and _ is written as =XX, byte by byte. */
function token(name: string): string {
  return Array.from(Buffer.from(name), (byte) => {
    const character = String.fromCharCode(byte)
    return /[A-Za-z0-9_-]/.test(character) ? character : `=${byte.toString(16).toUpperCase().padStart(2, '0')}`
  }).join('')
}

function named(written: string): string {
  const bytes = written.replace(/=([0-9A-F]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)))
  return Buffer.from(bytes, 'latin1').toString()
}
