import { spawn } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import Database from 'better-sqlite3'
import pg from 'pg'
import t, { type Test } from 'tap'
import { startPostgres } from '../../examples/support/postgres.ts'
import { compile, withSources } from '../support/snippets.ts'

const ROOT = resolve(import.meta.dirname, '../..')
/** The README's example, with the package's names replaced by its sources. */
async function example(): Promise<string> {
  const readme = await readFile(join(ROOT, 'README.md'), 'utf8')
  const code = /## Example\n\n```ts\n([\s\S]*?)```/.exec(readme)?.[1]
  if (code === undefined) throw new Error('The README has no example')
  return withSources(code)
}

t.test("the README's example compiles, runs, and moves the stock", async (t) => {
  const folder = await mkdtemp(join(ROOT, '.readme-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const postgres = await startPostgres({ durable: false })
  t.teardown(() => postgres.stop())
  const code = await example()
  const file = join(folder, 'example.ts')
  await writeFile(file, code)
  t.same(compile([file]), [])
  const lines = code.split('\n').slice(code.split('\n').findLastIndex((line) => line.startsWith('import')) + 1)
  t.ok(lines.filter((line) => line.trim() !== '').length <= 25, 'it is as short as it claims to be')

  const db = new Database(join(folder, 'till.sqlite'))
  db.pragma('journal_mode = WAL')
  db.exec(`
    CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT NOT NULL, status TEXT NOT NULL);
    CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL, item_no TEXT NOT NULL, quantity TEXT NOT NULL, net_amount TEXT NOT NULL);
    CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id)`)
  const { host, port, user, password } = postgres
  const env = { ...process.env, PGHOST: host, PGPORT: String(port), PGUSER: user, PGPASSWORD: password, PGDATABASE: 'postgres' }
  // The cashier sells as soon as the triggers stand: what was there before the first install is not sent by default.
  const child = spawn(process.execPath, ['example.ts'], { cwd: folder, env, stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  const sell = setInterval(() => {
    const installed = db.prepare("SELECT 1 FROM sqlite_schema WHERE name = 'sync_receipt_lines_insert'").get()
    if (!installed) return
    clearInterval(sell)
    db.exec(`BEGIN; INSERT INTO receipts VALUES (1, 'R-1', 'posted'); INSERT INTO receipt_lines VALUES (1, 1, '4006381333931', '3', '29.70'); COMMIT`)
  }, 5)
  t.teardown(() => clearInterval(sell))
  await moved(postgres, t)
  for await (const output of child.stdout) if (String(output).includes('sent')) break
})

async function moved(postgres: Awaited<ReturnType<typeof startPostgres>>, t: Test): Promise<void> {
  const pool = new pg.Pool({ host: postgres.host, port: postgres.port, user: postgres.user, password: postgres.password, database: 'postgres' })
  pool.on('error', () => undefined) // its last connection may outlive the server
  const deadline = Date.now() + 30_000
  let levels: unknown[] = []
  while (levels.length === 0 && Date.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 25))
    // Until the example has installed itself there is no such table.
    levels = await pool.query('SELECT item_no, location, quantity FROM stock_levels').then(
      ({ rows }) => rows,
      () => [],
    )
  }
  await pool.end()
  t.same(levels, [{ item_no: '4006381333931', location: 'BA01', quantity: '-3.000000' }])
}
