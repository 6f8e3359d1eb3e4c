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
  t.equal(sum([0.0000005]), '0')
  t.equal(sum([0.0000015]), '0.000002')
  t.equal(sum([0.1 + 0.2]), '0.3')
  t.equal(sum([0.1, 0.2]), '0.3')
  t.equal(sum([-0.0000015]), '-0.000002')
  t.equal(sum([-1e-7]), '0')
  t.equal(negate(0.1 + 0.2), '-0.3')
})

t.test('a declared scale rounds half to even, each value before the sum', async (t) => {
  t.equal(sum([0.125], 2), '0.12')
  t.equal(sum([0.375], 2), '0.38')
  t.equal(sum([2.675], 2), '2.68', 'as it is written, not as it is stored')
  t.equal(sum([0.5, 1.5, 2.5], 0), '4')
  t.equal(sum([-0.125], 2), '-0.12')
  t.equal(sum(['1.0005'], 3), '1', 'text too: negate() makes text of a double')
  t.equal(sum(['0.0000005'], 6), '0')
  t.equal(sum(['12.34', 3n, 5], 2), '20.34')
  t.equal(sum(['12.34'], 2), '12.34')
})

t.test('what is exact is never rounded', async (t) => {
  for (const bad of ['0.0000005', '1.1234567', '1e-7', '0.30000000000000004', '-0.0000001'])
    t.throws(() => sum([bad]), { code: 'ERR_VALUE', hint: /scale/ }, bad)
  t.equal(sum(['1.1234560000']), '1.123456', 'zeros are no places')
  t.equal(sum(['1.123456000000000000000000']), '1.123456')
  t.throws(() => negate('0.1234567'), { code: 'ERR_VALUE' })
  t.throws(() => difference('0.1234567', '0'), { code: 'ERR_VALUE' })
})

t.test('a decimal is what every reader takes for the same number', async (t) => {
  t.equal(sum(['1e3']), '1000')
  t.equal(sum(['1E+3']), '1000')
  t.equal(sum(['15e-1']), '1.5')
  t.equal(sum(['-0']), '0')
  t.equal(sum(['-0', -0]), '0')
  t.equal(sum(['-0.000000']), '0')
  t.equal(negate('-0'), '0')
  t.equal(sum(['.5']), '0.5')
  t.equal(sum(['5.']), '5')
  t.equal(sum(['000000000000000000001.50']), '1.5')
  t.equal(sum([999_999_999_999n]), '999999999999')
  t.equal(sum(['999999999999.999999']), '999999999999.999999')
  t.equal(sum([2 ** 39]), '549755813888')
})

t.test('what costs more than it is worth is refused at once', async (t) => {
  const began = performance.now()
  for (const bad of ['1e999999999', '-1e-999999999', `1${'0'.repeat(1_000_000)}`, `0.${'0'.repeat(1_000_000)}1`, `1e${'9'.repeat(1_000_000)}`])
    t.throws(() => sum([bad, '1']), { code: 'ERR_VALUE' })
  t.ok(performance.now() - began < 10_000)
})

t.test('what is no decimal is refused', async (t) => {
  for (const bad of [
    '',
    'abc',
    '1,5',
    ' 1',
    '1 ',
    '1\n',
    '+1',
    '--1',
    '1_000',
    '0x10',
    '0b1',
    '1n',
    '\u0661',
    '\uff11',
    '\u22121',
    'NaN',
    'Infinity',
    '.',
    '-',
    'e3',
    '1e',
    '1.5.',
    new Date(0),
    Number.NaN,
    Number.NEGATIVE_INFINITY,
    Number.POSITIVE_INFINITY,
    null,
    undefined,
    {},
    [],
    true,
  ]) {
    t.throws(() => sum([bad as string]), { code: 'ERR_VALUE' }, String(bad))
  }
  for (const huge of ['1000000000000', 1e12, 1e21, 10n ** 30n, '1e12', '1e300', Number.MAX_VALUE]) {
    t.throws(() => sum([huge]), { code: 'ERR_VALUE' }, String(huge))
    t.throws(() => negate(huge), { code: 'ERR_VALUE' }, String(huge))
  }
  t.throws(() => sum(['999999999999.5', '1']), { code: 'ERR_VALUE' })
  t.throws(() => difference('-999999999999', '1'), { code: 'ERR_VALUE' })
})
