import type { Batch, Point } from '../model.ts'
import { turn } from '../turns.ts'
import { encodeBatch } from './codec.ts'
import type { PackedBatch } from './publisher.ts'

/** The next batch after a point; inside the document that begins at `base`, where that is given. */
type ReadBatch = (epoch: string, after: Point, base: Point | undefined) => Promise<Batch | undefined>

/**
 * Reads and packs batches, the next one while an earlier one is on its way: a publisher's reading and a subscriber's
 * applying take turns otherwise. What was read ahead is used only for the very point that is asked for.
 */
export class BatchReader {
  private readonly source: ReadBatch
  private ahead: { readonly epoch: string; readonly after: Point; readonly packed: Promise<PackedBatch | undefined> } | undefined

  constructor(source: ReadBatch) {
    this.source = source
  }

  /** Nothing that was read ahead is used. */
  forget(): void {
    this.ahead = undefined
  }

  async read(epoch: string, after: Point, base: Point | undefined): Promise<PackedBatch | undefined> {
    const { ahead } = this
    this.ahead = undefined
    const isAsked = ahead?.epoch === epoch && ahead.after.entryNo === after.entryNo && ahead.after.digest === after.digest
    return (isAsked ? await ahead.packed : undefined) ?? this.pack(epoch, after, base)
  }

  readAhead(epoch: string, after: Point, base: Point | undefined): void {
    // Where it fails, the reading that is really wanted will say so.
    this.ahead = { epoch, after, packed: this.pack(epoch, after, base).catch(() => undefined) }
  }

  private async pack(epoch: string, after: Point, base: Point | undefined): Promise<PackedBatch | undefined> {
    const batch = await this.source(epoch, after, base)
    await turn()
    if (batch === undefined) return undefined
    const { through, frame } = batch
    return { through, base: frame?.isLast === false ? frame.base : undefined, bytes: await encodeBatch(batch) }
  }
}
