import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Test } from 'tap'
import type { RegisterName } from '../../src/model.ts'
import { type CentralFileMailboxOptions, centralFileMailbox, type FileMailboxOptions, fileMailbox } from '../../src/transport/file.ts'

export type Place = 'shop' | 'office'

/** A stick: a folder that is at one place or at the other, or at none. */
export class Stick {
  readonly key = randomBytes(32).toString('base64url')
  private readonly root: string

  constructor(t: Test) {
    this.root = mkdtempSync(join(tmpdir(), 'tillsync-stick-'))
    t.teardown(() => rmSync(this.root, { recursive: true, force: true }))
  }

  /** Where it appears. */
  at(place: Place): string {
    return join(this.root, place)
  }

  mailbox(name: RegisterName, options: Partial<FileMailboxOptions> = {}) {
    const { location, register } = name
    return fileMailbox({ folder: this.at('shop'), key: this.key, location, register, lookMs: 10, ...options })
  }

  /** All registers have the same key here. */
  central(options: Partial<CentralFileMailboxOptions> = {}) {
    return centralFileMailbox({ folder: this.at('office'), keys: () => this.key, lookMs: 10, ...options })
  }

  /** Pulls it out where it is and puts it in there; a new one where there was none. With `undefined` it is in somebody's pocket. */
  carry(to: Place | undefined): void {
    const from = (['shop', 'office'] as const).map((place) => this.at(place)).find((path) => existsSync(path)) ?? this.pocket
    const target = to === undefined ? this.pocket : this.at(to)
    if (existsSync(from)) {
      if (from !== target) renameSync(from, target)
    } else mkdirSync(target)
  }

  /** The files on it, wherever it is: paths from its root. */
  files(ending = ''): string[] {
    const root = this.path
    return readdirSync(root, { recursive: true, encoding: 'utf8' })
      .filter((path) => path.includes('/') && path.endsWith(ending))
      .toSorted()
  }

  /** Where it is now. */
  get path(): string {
    return [this.at('shop'), this.at('office'), this.pocket].find((path) => existsSync(path)) as string
  }

  private get pocket(): string {
    return join(this.root, 'pocket')
  }
}
