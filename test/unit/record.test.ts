import t from 'tap'
import { documentOf } from '../../src/apply/document-set.ts'
import type { Entry } from '../../src/model.ts'
import {
  decodeKeyValues,
  decodeRecord,
  decodeRecordId,
  encodeBlob,
  encodeInvalidText,
  encodeReal,
  encodeText,
  InvalidText,
  withValidText,
} from '../../src/record.ts'

t.test('every double comes back to the bit', async (t) => {
  const doubles = [
    0,
    -0,
    1,
    -1,
    0.1,
    1e21,
    1e-7,
    5e-324,
    1.7976931348623157e308,
    Number.POSITIVE_INFINITY,
    Number.NEGATIVE_INFINITY,
    Number.NaN,
    2 ** 53 + 2,
  ]
  for (const value of doubles) t.ok(Object.is(decodeRecord(`{"v":${encodeReal(value)}}`).v, value), String(value))
})

t.test('text that is no UTF-8 keeps its bytes, and shows replacement characters to handlers', async (t) => {
  const bytes = Buffer.from('4d\xfcller', 'latin1')
  const encoded = encodeInvalidText(new InvalidText(bytes))
  t.equal(encoded, `{"$text":"${bytes.toString('base64')}"}`)
  t.same(decodeRecord(`{"name":${encoded},"note":"x"}`), { name: '4d\ufffdller', note: 'x' })
  t.same((decodeKeyValues(`[1,${encoded}]`)[1] as InvalidText).bytes, bytes)
  const quoted = JSON.stringify({ note: encoded })
  t.equal(withValidText(quoted), quoted, 'text that looks like the tag is left alone')
  t.same(JSON.parse(withValidText(`{"name":${encoded}}`)), { name: '4d\ufffdller' })
})

t.test('a whole double can be told from an integer in the text', async (t) => {
  t.equal(encodeReal(1), '1.0')
  t.equal(encodeReal(-0), '{"$real":"-0.0"}')
})

t.test('64-bit integers come back whole, as bigint beyond 2^53', async (t) => {
  t.same(decodeRecord('{"a":9007199254740991,"b":9223372036854775807,"c":-9223372036854775808}'), {
    a: 9007199254740991,
    b: 9223372036854775807n,
    c: -9223372036854775808n,
  })
  t.same(decodeRecordId('[9223372036854775807,"x"]'), [9223372036854775807n, 'x'])
})

t.test('text that looks like a tag or a number stays text', async (t) => {
  for (const text of ['{"$blob":"AAAA"}', '9223372036854775807', ':1234567890123456789', '\u0000', '"', '\\', '{', 'ä€😀', '']) {
    t.same(decodeRecord(`{"v":${encodeText(text)}}`), { v: text }, JSON.stringify(text))
  }
})

t.test('blobs come back as they were', async (t) => {
  const blob = Buffer.from([0, 255, 123, 34])
  t.same(decodeRecord(`{"v":${encodeBlob(blob)},"w":1}`), { v: blob, w: 1 })
  t.same(decodeRecord(`{"v":${encodeBlob(new Uint8Array())}}`), { v: Buffer.alloc(0) })
})

t.test('what is no record is refused', async (t) => {
  for (const text of ['', '[]', '1', 'null', '{"a":{"b":1}}', '{"a":{"$blob":1}}', '{"a":{"$real":"x"}}', '{"a":']) {
    t.throws(() => decodeRecord(text), { code: 'ERR_VALUE' }, text)
  }
  t.throws(() => decodeRecordId('{}'), { code: 'ERR_VALUE' })
})

t.test('the parts of a document are by their tables, whatever these are called', async (t) => {
  const entry = (table: string, record: string): Entry => {
    const document = { table: 'receipts', recordId: '[1]' }
    return { entryNo: 1, table, operation: 'upsert', recordId: '[1]', record, document, sealedAt: '2026-01-01T00:00:00.000Z' }
  }
  const shape = ['__proto__', 'constructor', 'toString'].map((table) => ({ table, columns: { receipt_id: 'id' }, parts: [] }))
  const entries = [entry('receipts', '{"id":1}'), ...['__proto__', 'constructor'].map((table) => entry(table, '{"id":2,"receipt_id":1}'))]
  const { parts } = documentOf(entries, shape, ['id']).value
  t.same(
    Object.entries(parts).map(([table, rows]) => [table, rows.length]),
    [
      ['__proto__', 1],
      ['constructor', 1],
      ['toString', 0],
    ],
  )
})
