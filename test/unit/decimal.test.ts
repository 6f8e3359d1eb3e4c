import t from 'tap'
import { difference, negate, sum } from '../../src/decimal.ts'

t.test('sums and differences are exact', async (t) => {
  t.equal(sum(['0.1', '0.2']), '0.3')
  t.equal(sum(['-1.50', 2n, '0.000001']), '0.500001')
  t.equal(difference('1', '1.000'), '0')
  t.equal(sum([]), '0')
  t.equal(sum(['007', '-0', 3, -0]), '10')
  t.equal(sum(['1.50']), '1.5')
  t.equal(sum(['-0.0']), '0')
  t.equal(sum(['12.50']), '12.5')
  t.equal(sum(['3.00']), '3')
  t.equal(sum(['100']), '100')
  t.equal(sum(['0.0']), '0')
  t.equal(negate('-1.5'), '1.5')
  t.equal(negate(3), '-3')
  t.equal(negate(-0), '0')
  t.equal(negate(0.5), '-0.5')
  t.equal(negate('12.50'), '-12.5')
  t.equal(sum(['1e2']), '100')
  t.equal(sum([99_999, 99_999, '99999']), '299997')
  t.equal(sum(Array(50).fill('999999.999999')), '49999999.99995')
  t.equal(negate('2.50'), '-2.5')
  t.equal(negate('0'), '0')
})

t.test('a double is rounded half to even at the sixth place', async (t) => {
  t.equal(sum([0.1]), '0.1')
  t.equal(sum(['0.0000005']), '0')
  t.equal(sum(['0.0000015']), '0.000002')
})

t.test('what is no decimal is refused', async (t) => {
  for (const bad of ['', 'abc', '1,5', Number.NaN, Number.POSITIVE_INFINITY, null, undefined, {}, [], true]) {
    t.throws(() => sum([bad as string]), { code: 'ERR_VALUE' }, String(bad))
  }
  t.throws(() => sum(['999999999999.5', '1']), { code: 'ERR_VALUE' })
})
