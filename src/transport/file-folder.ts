import { createHash, randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, lstat, mkdir, open, readdir, rename, stat, unlink } from 'node:fs/promises'
import { join } from 'node:path'
import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import type { Direction } from './file-seal.ts'

/** A file that may be a letter, as it lies there. */
export interface Lying {
  readonly name: string
  /** Another text as soon as the file is another one. */
  readonly version: string
  readonly bytes: number
  readonly changedMs: number
  /** Not a folder, a link, a pipe or a device by that name. */
  readonly isFile: boolean
}

export interface FolderOptions {
  /** Where the folders of the registers lie. */
  readonly root: string
  /** A file that has to lie there. */
  readonly marker: string | undefined
  /** How much may lie there of one register, one way. */
  readonly mostFiles: number
  readonly mostBytes: number
}

const LETTER = /^\d{15}-([0-9a-f]{18})\.(up|down)$/
const LEFT_BEHIND = /^\d{15}-[0-9a-f]{18}\.(up|down)\.[0-9a-f]{8}\.part$/
const OF_A_REGISTER = /^till-.*-[0-9a-f]{12}$/
/** What operating systems leave on a stick. */
const NOT_OURS = /^(\.|Thumbs\.db$|desktop\.ini$|System Volume Information$)/i
const ID_BYTES = 9
/** A temporary file of another process that still writes is younger. */
const LEFT_BEHIND_MS = 3_600_000

/** The name of a register's folder: to be read by people, safe on every file system, and another one for each register, be it where case does not count. */
export function folderOf({ location, register }: RegisterName): string {
  const plain = (text: string) => text.replace(/[^A-Za-z0-9_]+/g, '_').slice(0, 40)
  const hash = createHash('sha256')
    .update(JSON.stringify([location, register]))
    .digest('hex')
    .slice(0, 12)
  return `till-${plain(location)}-${plain(register)}-${hash}`
}

/** The id of the message in a letter of this name. */
export function idOf(name: string): string {
  return Buffer.from(LETTER.exec(name)?.[1] ?? '', 'hex').toString('base64url')
}

/** Files in the folders of registers: each written under another name first, and renamed when it is on the disk. */
export class Folder {
  private readonly options: FolderOptions
  /** Tells our own temporary files from those of other processes. */
  private readonly writer = randomBytes(4).toString('hex')
  private readonly writing = new Set<string>()
  /** What letters have that were seen: they never change. */
  private readonly sizes = new Map<string, number>()
  private lastNo = 0

  constructor(options: FolderOptions) {
    this.options = options
  }

  /** @throws ERR_LINK where it is away */
  async requireThere(): Promise<void> {
    const { root, marker } = this.options
    await this.trying(() => stat(marker === undefined ? root : join(root, marker)))
  }

  /** The folders of registers that lie there. */
  async registers(): Promise<string[]> {
    await this.requireThere()
    const found = await this.trying(() => readdir(this.options.root, { withFileTypes: true }))
    return found.flatMap((one) => (one.isDirectory() && OF_A_REGISTER.test(one.name) ? [one.name] : [])).toSorted()
  }

  /** The letters of one way, in the order in which they were written, and what lies beside them and is none; nothing where there is no such folder. */
  async list(folder: string, direction: Direction): Promise<{ readonly letters: string[]; readonly others: string[] }> {
    await this.requireThere()
    const names = await this.trying(() => readdir(join(this.options.root, folder)), [])
    return {
      letters: names.filter((name) => LETTER.test(name) && name.endsWith(`.${direction}`)).toSorted(),
      others: names.filter((name) => !LETTER.test(name) && !LEFT_BEHIND.test(name) && !NOT_OURS.test(name)).toSorted(),
    }
  }

  /** Undefined where it has gone. */
  async look(folder: string, name: string): Promise<Lying | undefined> {
    const found = await this.trying(() => lstat(join(this.options.root, folder, name)), undefined)
    return found && { name, version: `${found.size} ${found.mtimeMs}`, bytes: found.size, changedMs: found.mtimeMs, isFile: found.isFile() }
  }

  /** So many bytes of it at most, whatever it has become meanwhile; undefined where it has gone. */
  read(folder: string, name: string, most: number): Promise<Buffer | undefined> {
    return this.trying(() => readAtMost(join(this.options.root, folder, name), most), undefined)
  }

  /** Says whether it could be removed; it can't where the folder is there to be read only. */
  async remove(folder: string, name: string): Promise<boolean> {
    try {
      await this.trying(() => unlink(join(this.options.root, folder, name)), undefined)
      return true
    } catch (error) {
      if ((error as TillsyncError).code === 'ERR_CREDENTIAL') return false
      throw error
    }
  }

  /** A name behind all that this process has given. Where case does not count, base64url would not tell ids apart. */
  nextName(direction: Direction, id = randomBytes(ID_BYTES).toString('base64url')): string {
    this.lastNo = Math.max(this.lastNo + 1, Date.now())
    const hex = Buffer.from(id, 'base64url')
      .toString('hex')
      .slice(0, 2 * ID_BYTES)
      .padStart(2 * ID_BYTES, '0')
    return `${String(this.lastNo).padStart(15, '0')}-${hex}.${direction}`
  }

  /**
   * Writes a letter; it is there whole or not at all, and stays after a power cut.
   *
   * @throws ERR_MAILBOX_FULL, ERR_LINK, ERR_CREDENTIAL
   */
  async write(folder: string, direction: Direction, name: string, bytes: Uint8Array): Promise<void> {
    await this.requireRoom(folder, direction, bytes.length)
    const path = join(this.options.root, folder)
    const part = `${name}.${this.writer}.part`
    this.writing.add(part)
    try {
      await this.trying(() => makeFolder(path))
      await this.trying(() => writeWhole(join(path, part), bytes))
      await this.trying(() => rename(join(path, part), join(path, name)))
      await this.trying(() => settle(path))
    } catch (error) {
      // Where it can't be removed now, it is when the folder is back.
      await unlink(join(path, part)).catch(() => undefined)
      throw error
    } finally {
      this.writing.delete(part)
    }
  }

  private async requireRoom(folder: string, direction: Direction, bytes: number): Promise<void> {
    const { mostFiles, mostBytes } = this.options
    const { letters } = await this.list(folder, direction)
    for (const place of this.sizes.keys())
      if (place.startsWith(`${folder}/`) && !letters.includes(place.slice(folder.length + 1))) this.sizes.delete(place)
    let total = bytes
    for (const name of letters) {
      const size = this.sizes.get(`${folder}/${name}`) ?? (await this.look(folder, name))?.bytes ?? 0
      this.sizes.set(`${folder}/${name}`, size)
      total += size
    }
    if (letters.length < mostFiles && total <= mostBytes) return
    throw full(`${letters.length} letters with ${total - bytes} bytes lie in the folder`)
  }

  /** Removes what was left behind where the writing was cut off: by `alone`, who alone writes this way, or so long ago that nobody writes any more. */
  async tidy(folder: string, direction: Direction, alone: boolean): Promise<void> {
    const names = await this.trying(() => readdir(join(this.options.root, folder)), [])
    for (const name of names) {
      if (!LEFT_BEHIND.test(name) || this.writing.has(name) || !name.includes(`.${direction}.`)) continue
      const changed = (await this.look(folder, name))?.changedMs ?? Date.now()
      const isOurs = alone || name.includes(`.${this.writer}.`)
      if (isOurs || Date.now() - changed > LEFT_BEHIND_MS) await this.remove(folder, name)
    }
  }

  /** `or` is answered where there is nothing by that name though the folder itself be there. */
  private async trying<T>(work: () => Promise<T>, ...or: readonly T[]): Promise<T> {
    try {
      return await work()
    } catch (thrown) {
      if (or.length > 0 && codeOf(thrown) === 'ENOENT') {
        await this.requireThere()
        return or[0] as T
      }
      throw refusal(thrown, this.options)
    }
  }
}

/** Only this one: were the root made with it, that would be taken for the stick that was just pulled out. */
async function makeFolder(path: string): Promise<void> {
  try {
    await mkdir(path)
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error
  }
}

async function readAtMost(path: string, most: number): Promise<Buffer> {
  const file = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0))
  try {
    const bytes = Buffer.alloc(most)
    let length = 0
    for (let read = 1; read > 0 && length < most; length += read) read = (await file.read(bytes, length, most - length)).bytesRead
    return bytes.subarray(0, length)
  } finally {
    await file.close()
  }
}

async function writeWhole(path: string, bytes: Uint8Array): Promise<void> {
  let file: FileHandle | undefined
  try {
    file = await open(path, 'wx')
    await file.writeFile(bytes)
    await file.sync()
  } finally {
    await file?.close()
  }
}

/** That a name stands in a folder survives a power cut only then; some systems don't let a folder be opened, and need not. */
async function settle(path: string): Promise<void> {
  let folder: FileHandle | undefined
  try {
    folder = await open(path, 'r')
    await folder.sync()
  } catch (error) {
    if (!UNSETTLED.has(codeOf(error) ?? '')) throw error
  } finally {
    await folder?.close()
  }
}

const UNSETTLED: ReadonlySet<string> = new Set(['EPERM', 'EISDIR', 'EINVAL', 'ENOTSUP', 'EBADF'])
const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG'])
const REFUSED: ReadonlySet<string> = new Set(['EACCES', 'EPERM', 'EROFS'])

function refusal(thrown: unknown, { root, marker }: FolderOptions): TillsyncError {
  if (thrown instanceof TillsyncError) return thrown
  const code = codeOf(thrown) ?? ''
  if (FULL.has(code)) return full('The file system has no room', thrown)
  if (REFUSED.has(code))
    return new TillsyncError('ERR_CREDENTIAL', `The folder can't be written: ${code}`, {
      hint: 'Give the process the right to write there; is the stick write-protected?',
      context: { folder: root },
      cause: thrown,
    })
  return new TillsyncError('ERR_LINK', `The folder is not there: ${code}`, {
    retryable: true,
    hint: `It is looked for again by itself. Is ${marker === undefined ? 'it' : `it, with the file \`${marker}\`,`} at ${root}?`,
    context: { folder: root },
    cause: thrown,
  })
}

function full(what: string, cause?: unknown): TillsyncError {
  return new TillsyncError('ERR_MAILBOX_FULL', what, {
    retryable: true,
    hint: 'It goes on when the other side has fetched what lies there. Make room, or raise `mostFiles` or `mostBytes`.',
    cause,
  })
}

function codeOf(thrown: unknown): string | undefined {
  return (thrown as NodeJS.ErrnoException | undefined)?.code
}
