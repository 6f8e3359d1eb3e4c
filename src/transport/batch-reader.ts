import type { Batch, Point } from '../model.ts'
import { turn } from '../turns.ts'
import { encodeBatch } from './codec.ts'
import type { PackedBatch } from './exchange.ts'

/**
 * Reads and packs batches, the next one while an earlier one is on its way: a publisher's reading and a subscriber's
 * applying take turns otherwise. What was read ahead is used only for the very point that is asked for.
 */
export class BatchReader {
  private readonly source: (after: Point) => Promise<Batch | undefined>
  private ahead: { readonly after: Point; readonly packed: Promise<PackedBatch | undefined> } | undefined

  constructor(source: (after: Point) => Promise<Batch | undefined>) {
    this.source = source
  }

  async read(after: Point): Promise<PackedBatch | undefined> {
    const { ahead } = this
    this.ahead = undefined
    const known = ahead?.after.entryNo === after.entryNo && ahead.after.digest === after.digest ? await ahead.packed : undefined
    return known ?? this.pack(after)
  }

  readAhead(after: Point): void {
    // Where it fails, the reading that is really wanted will say so.
    this.ahead = { after, packed: this.pack(after).catch(() => undefined) }
  }

  private async pack(after: Point): Promise<PackedBatch | undefined> {
    const batch = await this.source(after)
    await turn()
    return batch && { through: batch.through, bytes: await encodeBatch(batch) }
  }
}
