import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { readRules, tablesOf } from '../../src/capture/rules.ts'
import { checkRuntime } from '../../src/options.ts'

const read = (publish: unknown) => readRules(publish as Parameters<typeof readRules>[0])

t.test('roots carry their parts, and parts theirs', async (t) => {
  const [receipts, ...others] = read({
    line_discounts: { partOf: { receipt_lines: { line_id: 'id' } } },
    receipts: {},
    receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
  })
  t.same(others, [])
  t.same(receipts && tablesOf(receipts), ['receipts', 'receipt_lines', 'line_discounts'])
})

t.test('rules that contradict themselves are refused', async (t) => {
  const part = (of: string) => ({ partOf: { [of]: { a: 'b' } } })
  t.throws(() => read({ lines: part('receipts') }), { code: 'ERR_RULE', hint: /receipts/ })
  t.throws(() => read({ a: part('b'), b: part('a') }), { code: 'ERR_RULE', message: /circle/ })
  const levels = (most: number) => Object.fromEntries(Array.from({ length: most }, (_, n) => [`p${n + 1}`, part(`p${n}`)]))
  t.throws(() => read({ p0: {}, ...levels(8) }), { code: 'ERR_RULE', message: /levels/ }, 'deeper than a message holds')
  t.ok(read({ p0: {}, ...levels(7) }))
  t.throws(() => read({ a: part('a') }), { code: 'ERR_RULE' })
  t.throws(() => read({ r: {}, a: part('b'), b: part('c'), c: part('b') }), { code: 'ERR_RULE' })
  t.throws(() => read({ receipts: { only: ['id'], except: ['pin'] } }), { code: 'ERR_RULE' })
  t.throws(() => read({ receipts: { relatedTo: { processes: { process_id: 'id' } } } }), { code: 'ERR_RULE' })
})

t.test("the library's own tables are refused, and no others that are called alike", async (t) => {
  const src = join(import.meta.dirname, '../../src')
  const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))
  const named = files.flatMap((file) => [...readFileSync(join(src, file), 'utf8').matchAll(/\bname: '(sync_\w+)'/g)].map(([, name]) => String(name)))
  t.ok(named.length > 30)
  for (const name of [...named, 'sync_touches', 'Sync_Entries'])
    t.throws(() => read({ [name]: {} }), { code: 'ERR_RULE', context: { table: name } }, name)
  t.throws(() => read({ receipts: {}, sync_members: { partOf: { receipts: { a: 'b' } } } }), { code: 'ERR_RULE' })
  t.doesNotThrow(() => read({ sync_log: {} }))
})

t.test('an option of the wrong kind is refused and named', async (t) => {
  t.throws(() => read({ receipts: { were: () => 1 } }), { code: 'ERR_OPTION', message: /were/, hint: /where/ })
  t.throws(() => read({ receipts: { where: 'status' } }), { code: 'ERR_OPTION', message: /publish\.receipts\.where/ })
  t.throws(() => read({ receipts: { except: 'pin' } }), { code: 'ERR_OPTION' })
  t.throws(() => read({ receipts: 1 }), { code: 'ERR_OPTION' })
  t.throws(() => read({ receipts: null }), { code: 'ERR_OPTION' })
  for (const none of [[], new Map(), new Date(), Promise.resolve({})]) {
    t.throws(() => read({ receipts: none }), { code: 'ERR_OPTION' }, 'it would be a rule without any option')
    t.throws(() => read({ receipts: {}, lines: { dependsOn: none, partOf: { receipts: { a: 'b' } } } }), { code: 'ERR_OPTION' })
  }
  t.throws(() => read({ receipts: {}, lines: { partOf: { receipts: {} } } }), { code: 'ERR_OPTION' })
  t.throws(() => read({ receipts: {}, items: {}, lines: { partOf: { receipts: { a: 'b' }, items: { a: 'b' } } } }), { code: 'ERR_OPTION' })
  t.throws(() => read({ receipts: {}, lines: { partOf: { receipts: { a: 'b' } }, where: () => 1 } }), { code: 'ERR_OPTION', message: /part/ })
})

t.test('a Node that is too old is named, instead of a crash', async (t) => {
  for (const version of ['20.20.2', '18.0.0', '21.9.0']) t.throws(() => checkRuntime(version), { code: 'ERR_RUNTIME', hint: /24/ })
  for (const version of ['22.0.0', '24.21.0', '100.0.0']) t.doesNotThrow(() => checkRuntime(version))
})
