import type { SentBack, TakenBack } from '../model.ts'
import type { Source } from './publisher.ts'

/** What central sends back to a register that has lost it: taken once, and answered as long as central offers it. */
export class Returning {
  private readonly source: Pick<Source, 'takeBack'>
  private taken: TakenBack | undefined

  constructor(source: Pick<Source, 'takeBack'>) {
    this.source = source
  }

  /** What became of what central last offered. */
  get word(): TakenBack | undefined {
    return this.taken
  }

  drop(): void {
    this.taken = undefined
  }

  /** What central offers now. Says whether that is news. */
  async hear(offered: SentBack | undefined): Promise<boolean> {
    if (offered === undefined) this.taken = undefined
    if (offered === undefined || offered.id === this.taken?.id) return false
    this.taken = await this.source.takeBack(offered)
    return true
  }
}
