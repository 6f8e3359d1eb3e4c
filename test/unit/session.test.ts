import t from 'tap'
import { admit, remainder } from '../../src/apply/batch.ts'
import { chainDigest } from '../../src/digest.ts'
import type { Batch, Entry, Standing } from '../../src/model.ts'
import { START } from '../../src/model.ts'
import { backoffMs } from '../../src/transport/backoff.ts'

const digest = (char: string) => char.repeat(64)
const at = (entryNo: number, char: string, epoch = 'e1'): Standing => ({ epoch, entryNo, digest: digest(char) })

t.test('a subscriber takes only the batch that follows', async (t) => {
  const batch = (after: Standing, through: Standing): Batch => ({
    epoch: through.epoch,
    after,
    through,
    entries: [],
    shapes: {},
    identities: {},
    keys: {},
  })
  const standing = at(5, 'a')
  t.equal(admit(standing, batch(at(5, 'a'), at(9, 'b'))), 'next')
  t.equal(admit(standing, batch(at(2, 'c'), at(5, 'a'))), 'already')
  t.equal(admit(standing, batch(at(5, 'x'), at(9, 'b'))), 'not next', 'another digest')
  t.equal(admit(standing, batch(at(2, 'c'), at(4, 'd'))), 'not next', 'an older one')
  t.equal(admit(standing, batch(at(7, 'a'), at(9, 'b'))), 'not next', 'one is missing')
  t.equal(admit(START, batch({ epoch: 'e1', ...START }, at(4, 'd'))), 'next', 'the first')
  t.equal(admit(START, batch(at(2, 'c'), at(4, 'd'))), 'not next', 'the beginning is missing')
})

t.test('pauses grow, are spread, and are bounded', async (t) => {
  const bounds = { minMs: 500, maxMs: 60_000 }
  t.equal(
    backoffMs(1, bounds, () => 0.999_999),
    500,
  )
  t.equal(
    backoffMs(4, bounds, () => 0.5),
    2_000,
  )
  t.equal(
    backoffMs(1_000, bounds, () => 0.999_999_9),
    60_000,
  )
  t.equal(
    backoffMs(9, bounds, () => 0),
    0,
  )
})

t.test('of a batch that begins further back, what is beyond the standing is taken', async (t) => {
  const documents = [1, 2].map((id) => ({ table: 'receipts', recordId: `[${id}]` }))
  const entries = [0, 0, 1].map(
    (document, n): Entry => ({
      entryNo: n + 1,
      table: n === 1 ? 'receipt_lines' : 'receipts',
      operation: 'upsert',
      recordId: `[${n}]`,
      record: '{}',
      document: documents[document] as Entry['document'],
      sealedAt: '2026-11-21T10:00:00.000Z',
    }),
  )
  const digests = entries.map((_, n) => entries.slice(0, n + 1).reduce(chainDigest, START.digest))
  const batch: Batch = {
    epoch: 'e1',
    after: START,
    through: { entryNo: 3, digest: digests[2] as string },
    entries,
    shapes: {},
    identities: {},
    keys: {},
  }
  const point = (entryNo: number, digest: string | undefined) => ({ entryNo, digest: digest as string })
  t.same(remainder(point(2, digests[1]), batch), { ...batch, after: point(2, digests[1]), entries: entries.slice(2) })
  t.equal(remainder(point(1, digests[0]), batch), undefined, 'never half a document')
  t.equal(remainder(point(2, digest('f')), batch), undefined, 'never from another history')
  t.equal(remainder(point(3, digests[2]), batch), undefined, 'nothing beyond its end')
  t.equal(remainder(START, batch), undefined, 'nothing before its beginning')
})
