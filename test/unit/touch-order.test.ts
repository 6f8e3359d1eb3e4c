import t from 'tap'
import { inOrder, type TouchRow } from '../../src/adapters/postgres/order.ts'

const touch = (xid: number, seen: string, command = 0, place = '(0,1)'): TouchRow => ({
  xid,
  seen,
  command,
  place,
  source: 1,
  kind: 0,
  key: null,
  touches: 1,
  snapshot: '0:0:',
  own: null,
})
const order = (rows: readonly TouchRow[]) => inOrder(rows).map(({ xid, command, place }) => `${xid}.${command}${place}`)

t.test('a transaction that saw another one stands after it, whatever their ids', async (t) => {
  t.same(order([touch(10, '10:12:'), touch(11, '10:11:10')]), ['11.0(0,1)', '10.0(0,1)'], 'its snapshot ends later')
  t.same(order([touch(10, '10:13:'), touch(11, '10:13:10')]), ['11.0(0,1)', '10.0(0,1)'], 'or it ends where the other ended, with fewer running')
  t.same(order([touch(20, '11:13:'), touch(11, '10:13:10')]), ['11.0(0,1)', '20.0(0,1)'], 'also one that began after that end')
})

t.test('a transaction stands together, where its last touch stands', async (t) => {
  const rows = [touch(10, '10:10:', 1), touch(11, '10:11:10', 1), touch(10, '10:12:', 3)]
  t.same(order(rows), ['11.1(0,1)', '10.1(0,1)', '10.3(0,1)'])
})

t.test('touches of one transaction stand in the order of its commands, those of one command as they lie', async (t) => {
  const rows = [touch(10, '10:10:', 11, '(0,1)'), touch(10, '10:10:', 2, '(3,1)'), touch(10, '10:10:', 2, '(2,12)'), touch(10, '10:10:', 2, '(2,3)')]
  t.same(order(rows), ['10.2(2,3)', '10.2(2,12)', '10.2(3,1)', '10.11(0,1)'])
})
