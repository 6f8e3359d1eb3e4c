import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { basename, join, resolve } from 'node:path'
import t from 'tap'
import { NAMES } from '../support/snippet-names.ts'
import { compile, withSources } from '../support/snippets.ts'

const ROOT = resolve(import.meta.dirname, '../..')
/** Pages whose rules under `subscribe` are a register's. */
const OF_A_REGISTER = new Set(['configuration.md'])

/** The snippets of a page; those that name a file are compiled, and run, by links-docs.test.ts. */
function snippetsOf(page: string): string[] {
  return [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code as string).filter((code) => !/^\/\/ \S+\.ts\n/.test(code))
}

/** A snippet as a module: what it leaves out is put in, and a part of something is put where it belongs. */
function asModule(code: string, page: string): string {
  const whole = code
    .replaceAll(/(createRegister\(\{\s*)…,/g, '$1...REGISTER,')
    .replaceAll(/(createCentral\(\{\s*)…,/g, '$1...CENTRAL,')
    .replaceAll('({ … })', '(LEFT_OUT)')
    .replaceAll(': …', ': LEFT_OUT')
  const option = whole.trim().replace(/,$/, '')
  const factory = OF_A_REGISTER.has(page) ? 'createRegister({ ...REGISTER' : 'createCentral({ ...CENTRAL'
  if (/^(subscribe|validate): /.test(option)) return `${factory}, ${option} })`
  if (/^\w+: \w+\(/.test(option)) return `${factory}, subscribe: { ${option} } })`
  return whole
}

t.test('the snippets of the docs compile', async (t) => {
  const folder = await mkdtemp(join(ROOT, '.docs-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const names = join(folder, 'names.ts')
  await writeFile(names, withSources(NAMES))
  const files: string[] = []
  const pages = (await readdir(join(ROOT, 'docs'))).filter((file) => file.endsWith('.md'))
  for (const page of pages) {
    for (const [n, code] of snippetsOf(await readFile(join(ROOT, 'docs', page), 'utf8')).entries()) {
      const file = join(folder, `${basename(page, '.md')}-${n + 1}.ts`)
      await writeFile(file, withSources(`${asModule(code, page)}\nexport {}\n`))
      files.push(file)
    }
  }
  t.ok(files.length >= 20, `${files.length} snippets`)
  t.same(compile(files, [names]), [])
})
