import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { text } from 'node:stream/consumers'
import t from 'tap'
import { startServer } from '../support/postgres.ts'
import { compile, withSources } from '../support/snippets.ts'

const ROOT = resolve(import.meta.dirname, '../..')

/** What is done before and behind a link, which is the same for all links: the links of the contract's own tests show it. */
const BESIDE_THE_LINK = '/nothing is lost or doubled where (?!all)/'

/** The files of docs/links.md, by the name in their first line. */
async function files(): Promise<ReadonlyMap<string, string>> {
  const page = await readFile(join(ROOT, 'docs/links.md'), 'utf8')
  return new Map([...page.matchAll(/```ts\n\/\/ (\S+)\n([\s\S]*?)```/g)].map(([, name, code]) => [name as string, withSources(code as string)]))
}

t.test("the link of docs/links.md compiles and passes its contract, run by node's own tests", async (t) => {
  const server = await startServer(t)
  const folder = await mkdtemp(join(ROOT, '.links-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const all = await files()
  t.same([...all.keys()], ['socket-link.ts', 'socket-link.test.ts'])
  for (const [name, code] of all) await writeFile(join(folder, name), code)
  t.same(compile([...all.keys()].map((name) => join(folder, name))), [])
  const lines = (all.get('socket-link.test.ts') ?? '').split('\n').filter((line) => line.trim() !== '' && !line.startsWith('import'))
  t.ok(lines.length <= 20, 'it is as short as it claims to be')

  const { config } = await server.createDatabase()
  const env = {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(TAP|NODE_OPTIONS|NODE_TEST)/.test(name))),
    PGHOST: config.host,
    PGPORT: String(config.port),
    PGUSER: config.user as string,
    PGPASSWORD: config.password as string,
    PGDATABASE: config.database,
  }
  const child = spawn(process.execPath, ['--test', `--test-skip-pattern=${BESIDE_THE_LINK}`, '--test-reporter=tap', 'socket-link.test.ts'], {
    cwd: folder,
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.teardown(() => child.kill('SIGKILL'))
  const said = await text(child.stdout)
  const passed = Number(/^# pass (\d+)$/m.exec(said)?.[1])
  t.ok(passed > 15, `${passed} promises are kept`)
  t.match(said, /^# fail 0$/m, 'and none is broken')
  if (passed <= 15 || !said.includes('# fail 0')) t.comment(said)
})
