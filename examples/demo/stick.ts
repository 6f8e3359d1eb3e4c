import { createHmac, randomBytes } from 'node:crypto'
import { mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import type { FileWay } from './messages.ts'

/** The folder in which tills and head office leave letters for each other: a stick, which can be pulled out. */
export class Stick {
  readonly folder: string
  private readonly pocket: string
  private readonly secret = randomBytes(32)
  private isIn = true

  constructor(folder: string) {
    this.folder = join(folder, 'stick')
    this.pocket = join(folder, 'stick-away')
    mkdirSync(this.folder)
  }

  /** The folder, with each of these registers' own key. */
  way(registers: readonly string[]): FileWay {
    const keyOf = (register: string) => createHmac('sha256', this.secret).update(register).digest('base64url')
    return { type: 'file', folder: this.folder, keys: Object.fromEntries(registers.map((register) => [register, keyOf(register)])) }
  }

  /** Pulls it out, in the middle of whatever is written. */
  cut(): void {
    if (this.isIn) renameSync(this.folder, this.pocket)
    this.isIn = false
  }

  mend(): void {
    if (!this.isIn) renameSync(this.pocket, this.folder)
    this.isIn = true
  }

  close(): void {
    this.mend()
  }
}
