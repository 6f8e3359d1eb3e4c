import t from 'tap'
import type { Publication } from '../../src/model.ts'
import { encodeMessage } from '../../src/transport/codec.ts'
import { startServer } from '../support/postgres.ts'
import { found } from '../support/proofs.ts'
import { openShop } from '../support/shop.ts'
import { EPOCH, message, post, receiptsBatch } from '../support/wire.ts'

const server = await startServer(t)
const POS1 = { location: 'BA01', register: 'POS1' }

t.test('central names points of its present history only, and takes each for one to go on from', async (t) => {
  const shop = await openShop(t, server)
  const { token } = await shop.addTill()
  // Entries 1 to 40, one batch: points inside it are computed.
  const whole = receiptsBatch(Array.from({ length: 20 }, (_, n) => n + 1))
  const common = receiptsBatch([1, 2, 3, 4, 5]).through
  const say = async (publish: Publication) =>
    (await post(shop.url, token, await encodeMessage({ from: POS1, id: 'hand', publish }))).message?.subscribe
  const ask = async (after: number, before: number) => {
    const points = (await say({ epoch: EPOCH, head: 40, seek: [after, before] }))?.points ?? []
    return points.map(({ entryNo }) => entryNo)
  }
  t.match((await post(shop.url, token, await message(POS1, whole))).message?.subscribe?.standing, { entryNo: 40 })
  t.same(await ask(10, 17), [12, 14, 16])
  const start = { entryNo: 50, digest: 'b'.repeat(64) }
  t.same((await say({ epoch: 'told-anew', head: 60, parent: common, start }))?.standing, { epoch: 'told-anew', ...start })
  t.same(await ask(10, 50), [], 'what the former epoch has beyond the point where it was left is no point any more')
  t.same(await ask(3, 11), [4, 6, 8, 10])
  t.same(await ask(10, 55), [50], 'the beginning of an epoch is one, though nothing of it has come')
  const deeper = { entryNo: 70, digest: 'c'.repeat(64) }
  t.same((await say({ epoch: 'told-again', head: 70, parent: start, start: deeper }))?.standing, { epoch: 'told-again', ...deeper })
  t.same(await ask(50, 70), [])
  t.same(await ask(10, 70), [50], 'also behind another one')
  t.same((await say({ epoch: 'from-there', head: 70, parent: start }))?.standing, { epoch: 'from-there', ...start })
  t.same((await say({ epoch: 'from-before', head: 70, parent: common }))?.standing, { epoch: 'from-before', ...common })
  const broken = async () => found(await shop.central.audit(POS1)).filter((finding) => !finding.startsWith('ORPHANED'))
  t.same(await broken(), ['ENTRIES_SKIPPED 11…50', 'ENTRIES_SKIPPED 51…70'])
  await shop.pool.query("UPDATE sync_epochs SET start_digest = repeat('d', 64), digest = repeat('d', 64) WHERE epoch = 'from-there'")
  t.same(
    await broken(),
    ['ENTRIES_SKIPPED 11…50', 'DIGEST 50…50', 'ENTRIES_SKIPPED 51…70'],
    'an epoch that does not go on from the beginning of the other',
  )
})
