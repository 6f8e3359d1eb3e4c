import { setTimeout as sleep } from 'node:timers/promises'
import { asTillsyncError, TillsyncError, type TillsyncErrorCode } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { Letter, ReceiveOptions } from '../ports.ts'
import type { Folder, Lying } from './file-folder.ts'
import { type Direction, type FileHeader, openFile, readHeader } from './file-seal.ts'

export interface FileLettersOptions {
  readonly folder: Folder
  /** Which way the letters go that are received. */
  readonly direction: Direction
  readonly lookMs: number
  readonly mostLetterBytes: number
  /** In which folders letters may lie. */
  folders(): Promise<readonly string[]>
  /** The keys with which a letter may be written that says this of itself; undefined where they are not known yet. @throws ERR_CREDENTIAL, ERR_FOREIGN_REGISTER */
  keysFor(header: FileHeader, folder: string): Promise<readonly Uint8Array[] | undefined>
}

export type FileLetter = Letter & { readonly from: RegisterName }

/** What is wrong with a file. */
interface Bad {
  readonly version: string
  /** It was told of; before that it may be one that somebody is still copying here. */
  told: boolean
  /** When it was looked into last. */
  at: number
  readonly code: TillsyncErrorCode
}

/** A file that is copied here by others may be half there for so long. */
const COPYING_MS = 2_000
/** What can't be removed, since the folder can't be written, comes again: that does no harm, and it may be written by then. */
const READ_ONLY_AGAIN_MS = 60_000
/** What is wrong with a file for good. Another key may be given meanwhile, and what could not be read may be the next time. */
const FINAL: ReadonlySet<TillsyncErrorCode> = new Set(['ERR_MESSAGE', 'ERR_TOO_LARGE', 'ERR_FOREIGN_REGISTER'])
const AGAIN_MS = 5_000

/** The letters that lie in folders, each until it is acknowledged, oldest first. What is none is told of once and left alone. */
export class FileLetters {
  private readonly options: FileLettersOptions
  /** Letters that were given out, by folder and name; the value says when they may be given out again. */
  private readonly given = new Map<string, number>()
  private readonly bad = new Map<string, Bad>()
  /** What came of looking whether letters are whole. */
  private readonly known = new Map<string, { readonly version: string; readonly isWhole: boolean }>()

  constructor(options: FileLettersOptions) {
    this.options = options
  }

  /** @throws ERR_LINK where the folder is away */
  async *receive({ signal, onRefused }: ReceiveOptions): AsyncGenerator<FileLetter> {
    const { folder, direction, folders, lookMs } = this.options
    while (!signal.aborted) {
      const present = new Set<string>()
      for (const of of await folders()) {
        const { letters, others } = await folder.list(of, direction)
        for (const name of others) {
          present.add(placeOf(of, name))
          await this.tellForeign(of, name, onRefused)
        }
        for (const name of letters) present.add(placeOf(of, name))
        for (const name of letters) {
          if (signal.aborted) return
          const letter = await this.open(of, name, onRefused)
          // Those behind it wait with it.
          if (letter === 'waits') break
          if (letter) yield letter
        }
      }
      this.forgetBut(present)
      await sleep(lookMs, undefined, { signal }).catch(() => undefined)
    }
  }

  /** The names of letters that lie in a folder whole, as far as these keys tell; each is read once. */
  async whole(folder: string, keys: readonly Uint8Array[]): Promise<string[]> {
    const { letters } = await this.options.folder.list(folder, this.options.direction)
    const whole: string[] = []
    for (const name of letters) if (await this.isWhole(folder, name, keys)) whole.push(name)
    for (const name of this.known.keys()) if (!letters.includes(name)) this.known.delete(name)
    return whole
  }

  private async isWhole(folder: string, name: string, keys: readonly Uint8Array[]): Promise<boolean> {
    const lying = await this.options.folder.look(folder, name)
    if (lying === undefined) return false
    const known = this.known.get(name)
    if (known?.version === lying.version) return known.isWhole
    const bytes = lying.isFile ? await this.options.folder.read(folder, name, lying.bytes) : undefined
    const isWhole = bytes !== undefined && (await isReadable(keys, name, bytes))
    this.known.set(name, { version: lying.version, isWhole })
    return isWhole
  }

  private async open(folder: string, name: string, onRefused: ReceiveOptions['onRefused']): Promise<FileLetter | 'waits' | undefined> {
    const { mostLetterBytes, keysFor } = this.options
    const place = placeOf(folder, name)
    if ((this.given.get(place) ?? 0) > performance.now()) return undefined
    const lying = await this.options.folder.look(folder, name)
    if (lying === undefined || this.isTold(place, lying)) return undefined
    let header: FileHeader | undefined
    try {
      if (lying.bytes > mostLetterBytes) throw tooLarge(lying.bytes, mostLetterBytes)
      if (!lying.isFile) throw foreign()
      const bytes = await this.options.folder.read(folder, name, lying.bytes)
      if (bytes === undefined) return undefined
      header = readHeader(bytes)
      const { location, register } = header
      if (header.direction !== this.options.direction) throw reflected()
      const keys = await keysFor(header, folder)
      if (keys === undefined) return 'waits'
      const message = await openFile(keys, name, header, bytes)
      this.bad.delete(place)
      return this.letter(folder, name, { location, register }, message)
    } catch (thrown) {
      const error = asTillsyncError(thrown, 'ERR_MESSAGE', 'The file could not be read')
      // One that can't be read, where the others can: a bad sector.
      if (error.code === 'ERR_LINK') await this.options.folder.requireThere()
      this.tell(place, lying, error, header, onRefused)
      return undefined
    }
  }

  private letter(folder: string, name: string, from: RegisterName, message: Uint8Array): FileLetter {
    const { folder: files, lookMs } = this.options
    const place = placeOf(folder, name)
    const again = (inMs: number) => void this.given.set(place, performance.now() + inMs)
    again(Number.POSITIVE_INFINITY)
    return {
      from,
      message,
      acknowledge: async () => {
        try {
          if (await files.remove(folder, name)) this.given.delete(place)
          else again(READ_ONLY_AGAIN_MS)
        } catch (error) {
          // The stick was pulled out: it lies there still when that is back.
          again(lookMs)
          throw error
        }
      },
      release: async () => again(lookMs),
    }
  }

  /** What others are still copying is told of when it has not changed for a while. */
  private tell(place: string, { version }: Lying, error: TillsyncError, from: FileHeader | undefined, onRefused: ReceiveOptions['onRefused']): void {
    const known = this.bad.get(place)
    if (known?.version !== version) {
      this.bad.set(place, { version, told: false, at: performance.now(), code: error.code })
      return
    }
    if (performance.now() - known.at < COPYING_MS) return
    known.at = performance.now()
    if (known.told) return
    known.told = true
    const named = new TillsyncError(error.code, `${error.message}: ${place}`, { hint: error.hint, context: { file: place }, cause: error })
    onRefused?.(named, from && { location: from.location, register: from.register })
  }

  private async tellForeign(folder: string, name: string, onRefused: ReceiveOptions['onRefused']): Promise<void> {
    const place = placeOf(folder, name)
    const lying = await this.options.folder.look(folder, name)
    if (lying === undefined || this.isTold(place, lying)) return
    this.tell(place, lying, foreign(), undefined, onRefused)
  }

  /** Nothing else would come of it. */
  private isTold(place: string, { version }: Lying): boolean {
    const known = this.bad.get(place)
    if (known?.version !== version || !known.told) return false
    return FINAL.has(known.code) || performance.now() - known.at < AGAIN_MS
  }

  /** What has gone need not be remembered. */
  private forgetBut(present: ReadonlySet<string>): void {
    for (const place of this.bad.keys()) if (!present.has(place)) this.bad.delete(place)
    for (const place of this.given.keys()) if (!present.has(place)) this.given.delete(place)
  }
}

async function isReadable(keys: readonly Uint8Array[], name: string, bytes: Buffer): Promise<boolean> {
  try {
    await openFile(keys, name, readHeader(bytes), bytes)
    return true
  } catch {
    return false
  }
}

function placeOf(folder: string, name: string): string {
  return `${folder}/${name}`
}

function foreign(): TillsyncError {
  return new TillsyncError('ERR_MESSAGE', 'What lies there is no letter', { hint: 'It is left alone. Nothing else belongs into this folder.' })
}

function reflected(): TillsyncError {
  return new TillsyncError('ERR_MESSAGE', 'The file goes the other way', { hint: 'It is left alone. Who has renamed it?' })
}

function tooLarge(bytes: number, most: number): TillsyncError {
  return new TillsyncError('ERR_TOO_LARGE', `The file has ${bytes} bytes, ${most} are read`, { hint: 'It is left alone.', context: { bytes, most } })
}
