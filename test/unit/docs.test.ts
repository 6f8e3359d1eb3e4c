import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import t from 'tap'
import { CENTRAL_EVENTS, REGISTER_EVENTS } from '../../src/events.ts'
import { VERSION } from '../../src/version.ts'

const ROOT = resolve(import.meta.dirname, '../..')
const read = (file: string) => readFileSync(join(ROOT, file), 'utf8')
const pages = [
  'README.md',
  'CHANGELOG.md',
  'CONTRIBUTING.md',
  ...readdirSync(join(ROOT, 'docs'), { recursive: true, encoding: 'utf8' }).map((file) => join('docs', file)),
].filter((file) => file.endsWith('.md'))

t.test('every error code is explained in docs/errors.md', async (t) => {
  const codes = [...read('src/errors.ts').matchAll(/\| '(ERR_\w+)'/g)].map(([, code]) => code)
  const explained = [...read('docs/errors.md').matchAll(/^\| `(ERR_\w+)`/gm)].map(([, code]) => code)
  t.ok(codes.length > 20)
  t.same(explained.sort(), codes.sort())
})

t.test('a register tells central the version of its package', async (t) => {
  t.equal(VERSION, JSON.parse(read('package.json')).version)
})

t.test('every event, and every code of check(), audit() and reconcile(), is explained', async (t) => {
  const explained = (page: string) =>
    new Set([...read(page).matchAll(/^\| ((?:`[\w ]+`(?:, )?)+) \|/gm)].flatMap(([, names]) => names?.match(/[\w ]+(?=`(?:, |$))/g) ?? []))
  const sections: readonly (readonly [string, readonly string[]])[] = [
    ['docs/configuration.md', [...Object.keys(REGISTER_EVENTS), ...Object.keys(CENTRAL_EVENTS)]],
    ['docs/operations.md', literals('src/model.ts', /type FindingCode =([\s\S]*?)\n\n/)],
    ['docs/audit.md', literals('src/apply/audit-findings.ts', /type AuditFinding =([\s\S]*?)\n\n/).filter((name) => /^[A-Z_]+$/.test(name))],
    ['docs/audit.md', literals('src/apply/reconcile-differences.ts', /type DifferenceReason =([\s\S]*?)\n\n/)],
  ]
  for (const [page, names] of sections) {
    t.ok(names.length > 5, page)
    const there = explained(page)
    t.same(
      names.filter((name) => !there.has(name)),
      [],
      page,
    )
  }
})

function literals(file: string, type: RegExp): readonly string[] {
  return [...(type.exec(read(file))?.[1] ?? '').matchAll(/'(\w+)'/g)].map(([, name]) => name as string)
}

t.test('no page points to one that is not there', async (t) => {
  for (const page of pages) {
    for (const [, target] of read(page).matchAll(/\]\((?!https?:)([^)#]+)[^)]*\)/g)) {
      t.doesNotThrow(() => read(join(dirname(page), target as string)), `${page} → ${target}`)
    }
  }
})
