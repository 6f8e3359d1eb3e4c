import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import t from 'tap'

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

t.test('no page points to one that is not there', async (t) => {
  for (const page of pages) {
    for (const [, target] of read(page).matchAll(/\]\((?!https?:)([^)#]+)[^)]*\)/g)) {
      t.doesNotThrow(() => read(join(dirname(page), target as string)), `${page} → ${target}`)
    }
  }
})
