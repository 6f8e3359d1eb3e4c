import type { Batch, Point } from '../model.ts'
import { turn } from '../turns.ts'
import { encodeBatch } from './codec.ts'
import type { PackedBatch } from './publisher.ts'

/**
 * Reads and packs batches, the next one while an earlier one is on its way: a publisher's reading and a subscriber's
 * applying take turns otherwise. What was read ahead is used only for the very point that is asked for.
 */
export class BatchReader {
  private readonly source: (epoch: string, after: Point) => Promise<Batch | undefined>
  private ahead: { readonly epoch: string; readonly after: Point; readonly packed: Promise<PackedBatch | undefined> } | undefined

  constructor(source: (epoch: string, after: Point) => Promise<Batch | undefined>) {
    this.source = source
  }

  async read(epoch: string, after: Point): Promise<PackedBatch | undefined> {
    const { ahead } = this
    this.ahead = undefined
    const isAsked = ahead?.epoch === epoch && ahead.after.entryNo === after.entryNo && ahead.after.digest === after.digest
    return (isAsked ? await ahead.packed : undefined) ?? this.pack(epoch, after)
  }

  readAhead(epoch: string, after: Point): void {
    // Where it fails, the reading that is really wanted will say so.
    this.ahead = { epoch, after, packed: this.pack(epoch, after).catch(() => undefined) }
  }

  private async pack(epoch: string, after: Point): Promise<PackedBatch | undefined> {
    const batch = await this.source(epoch, after)
    await turn()
    return batch && { through: batch.through, bytes: await encodeBatch(batch) }
  }
}
