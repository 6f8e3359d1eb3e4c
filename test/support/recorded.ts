import { createDecipheriv } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { Packr } from 'msgpackr'
import type { Test } from 'tap'
import type { RegisterName } from '../../src/index.ts'
import { decodeMessage } from '../../src/transport/codec.ts'
import { folderOf } from '../../src/transport/file-folder.ts'
import { type Message, PROTOCOL_VERSION } from '../../src/transport/message.ts'
import { type Conversation, type Letter, type Played, plain, readConversations } from '../fixtures/wire/recording.ts'
import { eventually } from './eventually.ts'
import { frame } from './wire.ts'

const MAX_BYTES = 8_388_608
const packr = new Packr({ useRecords: false, variableMapSize: true, moreTypes: false, int64AsType: 'number', mapsAsObjects: true })
/** What one side draws at random, or what follows from the time: another one at each playing. */
const DRAWN: ReadonlySet<string> = new Set(['id', 'answers', 'epoch', 'digest', 'stream', 'mark'])
/** Packed by themselves within a message. */
const PACKED: ReadonlySet<string> = new Set(['batch', 'published'])

export type Talk = Conversation & { readonly edition: string; readonly played: Played }

/** Those of which it is recorded what was done at either side. */
export function playedTalks(): readonly Talk[] {
  return readConversations(PROTOCOL_VERSION).filter((talk): talk is Talk => talk.played !== undefined)
}

/** The number of messages that there are before the deed behind this one. */
export function endOf({ played, steps }: Talk, deed: number): number {
  return played.deeds[deed + 1]?.after ?? steps.length
}

export const decode = (bytes: Uint8Array): Promise<Message> => decodeMessage(bytes, MAX_BYTES)

/** The map in a frame of the protocol, as it is written on the wire. */
export function unpack(bytes: Uint8Array): Record<string, unknown> {
  return packr.unpack(bytes[0] === 2 ? gunzipSync(bytes.subarray(1)) : bytes.subarray(1)) as Record<string, unknown>
}

/** What a message means, but for what is said in words only, and when. */
function meaningOf(message: Message): Record<string, unknown> {
  return JSON.parse(JSON.stringify(plain(message)), function (this: { code?: unknown }, key: string, value: unknown) {
    if (key === 'sealedAt') return undefined
    return key === 'message' && typeof this.code === 'string' ? '' : value
  })
}

/** What was drawn when it was recorded, and what stands for it now. */
export class Drawn {
  private readonly now = new Map<string, string>()

  /** A message of today and the recorded one, put so that they are equal where they mean the same. */
  async compared(
    today: Uint8Array,
    recorded: Uint8Array,
  ): Promise<{ readonly said: Record<string, unknown>; readonly was: Record<string, unknown> }> {
    const [said, was] = [meaningOf(await decode(today)), meaningOf(await decode(recorded))]
    this.learn(was, said, '')
    return { said, was: this.replaced(was) }
  }

  private learn(then: unknown, now: unknown, key: string): void {
    if (typeof then === 'string' && typeof now === 'string') {
      if (DRAWN.has(key) && !this.now.has(then)) this.now.set(then, now)
    } else if (typeof then === 'object' && then !== null && typeof now === 'object' && now !== null)
      for (const [name, value] of Object.entries(then)) {
        // The digests of a comparison are of the documents: they are the same at each playing.
        if (name !== 'compared') this.learn(value, (now as Record<string, unknown>)[name], Array.isArray(then) ? key : name)
      }
  }

  /** A recorded message as it would have been said today, in the wire's form of then. */
  asToday(recorded: Uint8Array): Uint8Array {
    const wire = this.replaced(unpack(recorded))
    const inner = Object.entries(wire).flatMap(([name, value]) =>
      PACKED.has(name) ? [[name, frame(this.replaced(unpack(value as Uint8Array)))]] : [],
    )
    return frame({ ...wire, ...Object.fromEntries(inner) })
  }

  private replaced<T>(value: T): T
  private replaced(value: unknown): unknown {
    if (typeof value === 'string') return this.now.get(value) ?? value
    if (value instanceof Uint8Array) {
      const now = this.now.get(Buffer.from(value).toString('hex'))
      return now === undefined ? value : Buffer.from(now, 'hex')
    }
    if (Array.isArray(value)) return value.map((item) => this.replaced(item))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, this.replaced(item)]))
  }
}

/** A letter's file, read as it is described: `tillsync`, 1, the length of what it says of itself, that, a nonce, the enciphered message, a tag. */
export function readLetter(key: string, letter: Letter): { readonly says: Readonly<Record<string, string>>; readonly message: Buffer } {
  const { name } = letter
  const bytes = Buffer.from(letter.bytes)
  if (bytes.subarray(0, 9).toString('latin1') !== 'tillsync\u0001') throw new Error('It is no letter')
  const end = 11 + bytes.readUInt16BE(9)
  const decipher = createDecipheriv('aes-256-gcm', Buffer.from(key, 'base64url'), bytes.subarray(end, end + 12))
  decipher.setAAD(Buffer.concat([bytes.subarray(0, end), Buffer.from(name)]))
  decipher.setAuthTag(bytes.subarray(-16))
  const message = Buffer.concat([decipher.update(bytes.subarray(end + 12, -16)), decipher.final()])
  return { says: JSON.parse(bytes.subarray(11, end).toString()), message }
}

/** A stick on which one register's letters lie. */
export class LetterFolder {
  readonly root = mkdtempSync(join(tmpdir(), 'tillsync-letters-'))
  private readonly folder: string
  private readonly seen = new Set<string>()

  constructor(t: Test, register: RegisterName) {
    t.teardown(() => rmSync(this.root, { recursive: true, force: true }))
    this.folder = join(this.root, folderOf(register))
    mkdirSync(this.folder)
  }

  put({ name, bytes }: Letter): void {
    writeFileSync(join(this.folder, name), bytes)
  }

  /** The next one of a direction that was not taken before. */
  async next(direction: 'up' | 'down'): Promise<Letter & { readonly bytes: Buffer }> {
    const name = await eventually(`a letter goes ${direction}`, async () =>
      (await readdir(this.folder)).toSorted().find((file) => file.endsWith(`.${direction}`) && !this.seen.has(file)),
    )
    this.seen.add(name)
    return { name, bytes: readFileSync(join(this.folder, name)) }
  }
}
