import { setTimeout as sleep } from 'node:timers/promises'
import { messageOf, TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { checkName, known, unlessGiven, whole } from '../options.ts'
import type { CentralMailbox, Mailbox } from '../ports.ts'
import { askHost } from './abortable.ts'
import { Folder, folderOf, idOf } from './file-folder.ts'
import { FileLetters } from './file-letters.ts'
import { ENVELOPE_BYTES, KEY_BYTES, sealFile } from './file-seal.ts'

interface FileOptions {
  /** Where the letters lie: a stick, a share, a folder that something else copies. One for all registers; each has a folder of its own in it. */
  readonly folder: string
  /**
   * The name of a file that has to lie in the folder, so that the empty place where a stick is mounted is not taken for the stick. Default: the folder itself is enough.
   */
  readonly marker?: string
  /** How often it is looked for letters, in milliseconds. Default 1,000; from 10 up. */
  readonly lookMs?: number
  /** How many letters to one receiver may lie there that nobody has fetched; more is ERR_MAILBOX_FULL. Default 1,000; from 1 up. */
  readonly mostFiles?: number
  /** How many bytes they may have. Default 1,073,741,824; from 65,536 up. */
  readonly mostBytes?: number
}

/** 32 random bytes, or the same as 43 characters of base64url. */
type Key = Uint8Array | string
/** At least one, at most eight: the first is written with, letters under any of them are read. */
type Keys = readonly [Key, ...Key[]]

export interface FileMailboxOptions extends FileOptions, RegisterName {
  /** What only this register and central know: 32 random bytes, or the same as 43 characters of base64url. While it is changed a list: written is with the first, read under all. */
  readonly key: Key | Keys
}

export interface CentralFileMailboxOptions extends FileOptions {
  /** The key of a register, or a list as there; undefined where it has none: its letters are left alone. Asked at each letter. */
  readonly keys: (register: RegisterName) => Key | Keys | undefined | Promise<Key | Keys | undefined>
}

const LOOK_MS = 1_000
const MOST_FILES = 1_000
const MOST_BYTES = 1_073_741_824
const LEAST_BYTES = 65_536
const LONGEST_MS = 2_147_483_647
/** The largest message: of more neither side takes any, unless it is told otherwise. */
const MOST_LETTER_BYTES = 67_108_864
const MOST_KEYS = 8
const SHARED = ['folder', 'marker', 'lookMs', 'mostFiles', 'mostBytes']

/**
 * A register's letters as files in a folder, enciphered and authenticated by a key of its own (AES-256-GCM): for a stick, a share, a folder that is copied by SFTP. Whether the folder is there is
 * found out at each use: ERR_LINK where it is not. A letter is there whole or not at all; it is removed when it is acknowledged.
 *
 * @throws ERR_OPTION
 */
export function fileMailbox(options: FileMailboxOptions): Mailbox {
  const { shared, folder } = readOptions('fileMailbox', options, ['key', 'location', 'register'])
  checkName('location', options.location)
  checkName('register', options.register)
  const keys = readKeys('key', options.key)
  const name = { location: options.location, register: options.register }
  const own = folderOf(name)
  const letters = new FileLetters({
    ...shared,
    folder,
    direction: 'down',
    folders: async () => [own],
    keysFor: async (header) => {
      if (header.location === name.location && header.register === name.register) return keys
      throw new TillsyncError('ERR_FOREIGN_REGISTER', 'The file is meant for another register', { hint: 'It is left alone. Who has moved it here?' })
    },
  })
  const sent = new FileLetters({ ...shared, folder, direction: 'up', folders: async () => [own], keysFor: async () => keys })
  let isTidy = false
  return {
    isVisited: true,
    maxBytes: MOST_LETTER_BYTES,
    async send(message, { id }) {
      await folder.requireThere()
      if (!isTidy) await folder.tidy(own, 'up', true)
      isTidy = true
      const file = folder.nextName('up', id)
      try {
        await folder.write(own, 'up', file, await sealFile(keys[0], file, name, 'up', message))
      } catch (error) {
        // What was begun may lie there when the stick is back.
        isTidy = false
        throw error
      }
    },
    receive: (options) => letters.receive(options),
    unread: async () => new Set((await sent.whole(own, keys)).map(idOf)),
  }
}

/**
 * Central's side of the same folder, of all registers. Several processes may receive from it; what two of them take at the same time changes nothing the second time.
 *
 * @throws ERR_OPTION
 */
export function centralFileMailbox(options: CentralFileMailboxOptions): CentralMailbox {
  const { shared, folder } = readOptions('centralFileMailbox', options, ['keys'])
  const { keys } = options
  if (typeof keys !== 'function') throw misused('`keys`', 'a function: (register) => key', keys)
  const keysOf = async (register: RegisterName): Promise<readonly [Uint8Array, ...Uint8Array[]]> => {
    const found = await askHost(() => keys(register))
    if (found !== undefined) return readKeys('keys', found)
    throw new TillsyncError('ERR_CREDENTIAL', 'There is no key for the register', {
      hint: 'Its letters are left alone until `keys` answers with one.',
    })
  }
  const asked = new Map<string, Asked>()
  /** Undefined while the host has not answered: the register's letters wait for that, and nobody else's. */
  const keysSoon = async (register: RegisterName): Promise<readonly Uint8Array[] | undefined> => {
    const own = folderOf(register)
    const known = asked.get(own)
    const question: Asked = known ?? { answer: keysOf(register), isAnswered: false }
    asked.set(own, question)
    if (known === undefined) await answered(question)
    if (!question.isAnswered) return undefined
    asked.delete(own)
    return question.answer
  }
  const letters = new FileLetters({
    ...shared,
    folder,
    direction: 'up',
    folders: () => folder.registers(),
    keysFor: async ({ location, register }, lyingIn) => {
      if (folderOf({ location, register }) === lyingIn) return keysSoon({ location, register }).catch(noKey)
      throw new TillsyncError('ERR_FOREIGN_REGISTER', "The file lies in another register's folder", {
        hint: 'It is left alone. Who has moved it there?',
      })
    },
  })
  const tidy = new Set<string>()
  return {
    maxBytes: MOST_LETTER_BYTES,
    async send(to, message) {
      const own = folderOf(to)
      await folder.requireThere()
      if (!tidy.has(own)) await folder.tidy(own, 'down', false)
      tidy.add(own)
      const file = folder.nextName('down')
      try {
        const [key] = await keysOf(to)
        await folder.write(own, 'down', file, await sealFile(key, file, to, 'down', message))
      } catch (error) {
        tidy.delete(own)
        throw error
      }
    },
    receive: (options) => letters.receive(options),
  }
}

/** A question to the host for a register's keys. */
interface Asked {
  readonly answer: Promise<readonly Uint8Array[]>
  isAnswered: boolean
}

/** So long an answer of the host's is waited for before other letters are looked at. */
const SOON_MS = 100

/** Until it is, or a moment is over. */
async function answered(question: Asked): Promise<void> {
  const waiting = new AbortController()
  const settled = () => {
    question.isAnswered = true
    waiting.abort()
  }
  question.answer.then(settled, settled)
  await sleep(SOON_MS, undefined, { signal: waiting.signal }).catch(() => undefined)
}

/** What failed may go well the next time, as with a wrong key. */
function noKey(thrown: unknown): never {
  if (thrown instanceof TillsyncError) throw thrown
  const hint = 'What failed is the function that was given to centralFileMailbox as `keys`. The file is left alone until it answers.'
  throw new TillsyncError('ERR_CREDENTIAL', `There is no key: ${messageOf(thrown)}`, { retryable: true, hint, cause: thrown })
}

function readOptions(what: string, options: FileOptions, own: readonly string[]) {
  if (typeof options !== 'object' || options === null) throw misused(`\`${what}\``, 'called with an object such as { folder }', options)
  known(what, options, [...SHARED, ...own])
  const { folder: root, marker, lookMs, mostFiles, mostBytes } = options
  if (typeof root !== 'string' || root === '' || root.includes('\0')) throw misused('`folder`', 'the path of a folder', root)
  if (marker !== undefined && (typeof marker !== 'string' || marker === '' || marker.includes('\0')))
    throw misused('`marker`', 'the name of a file', marker)
  return {
    shared: { lookMs: whole('lookMs', unlessGiven(lookMs, LOOK_MS), 10, LONGEST_MS), mostLetterBytes: MOST_LETTER_BYTES + ENVELOPE_BYTES },
    folder: new Folder({
      root,
      marker,
      mostFiles: whole('mostFiles', unlessGiven(mostFiles, MOST_FILES), 1),
      mostBytes: whole('mostBytes', unlessGiven(mostBytes, MOST_BYTES), LEAST_BYTES),
    }),
  }
}

/** Never shown, be they wrong. */
function readKeys(option: string, keys: Key | Keys): readonly [Uint8Array, ...Uint8Array[]] {
  const given: readonly unknown[] = Array.isArray(keys) ? keys : [keys]
  const all = given.map(readKey)
  const [first, ...others] = all.filter((key) => key !== undefined)
  if (first !== undefined && others.length + 1 === all.length && all.length <= MOST_KEYS) return [first, ...others]
  throw new TillsyncError(
    'ERR_OPTION',
    `Expected \`${option}\` to be ${KEY_BYTES} bytes, or 43 characters of base64url; while it is changed a list of 1 to ${MOST_KEYS} such`,
    { hint: "randomBytes(32).toString('base64url') makes one.", context: { option } },
  )
}

function readKey(key: unknown): Uint8Array | undefined {
  const bytes = typeof key === 'string' && /^[A-Za-z0-9_-]{43}$/.test(key) ? Buffer.from(key, 'base64url') : key
  return bytes instanceof Uint8Array && bytes.length === KEY_BYTES ? Uint8Array.from(bytes) : undefined
}

function misused(option: string, expected: string, got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `Expected ${option} to be ${expected}, got ${got === null ? 'null' : typeof got}`, {
    hint: "fileMailbox({ folder: '/media/stick', key, location: 'BA01', register: 'POS1' })",
    context: { option: option.replaceAll('`', '') },
  })
}
