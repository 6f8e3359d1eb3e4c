import { closeSync, fstatSync, openSync, readSync } from 'node:fs'

/**
 * After so many frames of the log a checkpoint follows. SQLite's automatic one would come inside a commit, the host's as likely as ours, after 1,000: it
 * copies 4 MB, and waits for the disk.
 */
const CHECKPOINT_FRAMES = 700
/** Where others write too, it is put off until one of them just has, up to so many frames: the disk makes whoever commits meanwhile wait, and the next commit is furthest off then. */
const [SOON_FRAMES, LATEST_FRAMES] = [600, 800]
/** Where the log can't be looked at: after about so many bytes. */
const CHECKPOINT_BYTES = 1_500_000
/** It is looked at after about so many bytes. */
const LOOK_BYTES = 65_536
/** What a commit writes beside its rows: the pages on which they stand, and those of the indexes. */
const COMMIT_BYTES = 16_384

/** The -wal file of a database. */
interface Log {
  /** How many frames it holds since it was last begun anew, a page each: what SQLite's automatic checkpoint goes by, too. */
  readonly frames: number
  /** Another one each time that it is begun anew. */
  readonly salt: string
}

/** When the next checkpoint is due. */
export class LogGrowth {
  /** Written since the log was last looked at, and since the last checkpoint, in bytes. */
  private readonly written = { unseen: 0, bytes: 0 }
  /** By how many frames the log had grown when it was last looked at. */
  private grown = 0
  /** The log at the last checkpoint. */
  private copied: Log = { frames: 0, salt: '' }

  /**
   * To be asked after each commit; true means that a checkpoint follows.
   *
   * @param others whether others write too, and whether one of them has done so just now
   */
  isDue(database: string, rowBytes: number, others: 'none' | 'some' | 'just'): boolean {
    const { written } = this
    written.bytes += COMMIT_BYTES + rowBytes
    written.unseen += COMMIT_BYTES + rowBytes
    const most = { none: CHECKPOINT_FRAMES, some: LATEST_FRAMES, just: SOON_FRAMES }[others]
    if (written.unseen < LOOK_BYTES && this.grown < most) return false
    written.unseen = 0
    const log = logOf(database)
    const grown = log && log.frames - (log.salt === this.copied.salt ? this.copied.frames : 0)
    this.grown = grown ?? 0
    if (grown === undefined ? written.bytes < CHECKPOINT_BYTES : grown < most) return false
    written.bytes = 0
    this.grown = 0
    if (log) this.copied = log
    return true
  }
}

const HEADER_BYTES = 32
const FRAME_HEADER_BYTES = 24
const SALT_BYTES = 8
/** In the header of the file, and in that of each frame. */
const [SALT_AT, FRAME_SALT_AT, PAGE_SIZE_AT] = [16, 8, 8]

/** Undefined where it can't be read. Frames of before it was begun anew have other salts: https://sqlite.org/fileformat2.html#the_write_ahead_log */
export function logOf(database: string): Log | undefined {
  let file: number
  try {
    file = openSync(`${database}-wal`, 'r')
  } catch {
    return undefined
  }
  try {
    const header = Buffer.alloc(HEADER_BYTES)
    if (readSync(file, header, 0, HEADER_BYTES, 0) < HEADER_BYTES) return { frames: 0, salt: '' }
    const salt = header.subarray(SALT_AT, SALT_AT + SALT_BYTES)
    const frameBytes = FRAME_HEADER_BYTES + header.readUInt32BE(PAGE_SIZE_AT)
    const found = Buffer.alloc(SALT_BYTES)
    const isOurs = (frame: number) =>
      readSync(file, found, 0, SALT_BYTES, HEADER_BYTES + frame * frameBytes + FRAME_SALT_AT) === SALT_BYTES && found.equals(salt)
    let [some, none] = [0, Math.floor((fstatSync(file).size - HEADER_BYTES) / frameBytes)]
    while (some < none) {
      const frame = Math.floor((some + none) / 2)
      if (isOurs(frame)) some = frame + 1
      else none = frame
    }
    return { frames: some, salt: salt.toString('hex') }
  } catch {
    return undefined
  } finally {
    closeSync(file)
  }
}
