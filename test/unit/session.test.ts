import t from 'tap'
import { admit } from '../../src/apply/batch.ts'
import type { Batch, Standing } from '../../src/model.ts'
import { START } from '../../src/model.ts'
import { backoffMs } from '../../src/transport/backoff.ts'
import { judge } from '../../src/transport/session.ts'

const digest = (char: string) => char.repeat(64)
const at = (entryNo: number, char: string, epoch = 'e1'): Standing => ({ epoch, entryNo, digest: digest(char) })

t.test('a publisher goes on from a point that its own log has', async (t) => {
  t.same(judge('e1', undefined, undefined), { kind: 'follow', after: START })
  t.same(judge('e1', at(5, 'a'), digest('a')), { kind: 'follow', after: { entryNo: 5, digest: digest('a') } })
})

t.test('a publisher follows nobody into another history', async (t) => {
  t.same(judge('e1', at(5, 'a'), digest('b')), { kind: 'forked' }, 'another digest')
  t.same(judge('e1', at(5, 'a'), undefined), { kind: 'forked' }, 'no such entry')
  t.same(judge('e1', at(5, 'a', 'e2'), digest('a')), { kind: 'forked' }, 'another epoch')
})

t.test('a subscriber takes only the batch that follows', async (t) => {
  const batch = (after: Standing, through: Standing): Batch => ({ epoch: through.epoch, after, through, entries: [], shapes: {} })
  const standing = at(5, 'a')
  t.equal(admit(standing, batch(at(5, 'a'), at(9, 'b'))), 'next')
  t.equal(admit(standing, batch(at(2, 'c'), at(5, 'a'))), 'already')
  t.equal(admit(standing, batch(at(5, 'x'), at(9, 'b'))), 'not next', 'another digest')
  t.equal(admit(standing, batch(at(2, 'c'), at(4, 'd'))), 'not next', 'an older one')
  t.equal(admit(standing, batch(at(7, 'a'), at(9, 'b'))), 'not next', 'one is missing')
  t.equal(admit(standing, batch(at(5, 'a', 'e2'), at(9, 'b', 'e2'))), 'other epoch')
  t.equal(admit(undefined, batch({ epoch: 'e1', ...START }, at(4, 'd'))), 'next', 'the first')
  t.equal(admit(undefined, batch(at(2, 'c'), at(4, 'd'))), 'not next', 'the beginning is missing')
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
