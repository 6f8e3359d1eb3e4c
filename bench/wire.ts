import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import Database from 'better-sqlite3'
import { generateSales } from '../examples/demo/generator.ts'
import { PointOfSale } from '../examples/demo/pos.ts'
import { sqlite } from '../src/adapters/sqlite/adapter.ts'
import { createRegister, type Link, type ListedEntry } from '../src/index.ts'
import { httpLink } from '../src/transport/http.ts'
import { startHeadOffice } from './backlog.ts'
import { type Bench, expect, toResult } from './measure.ts'
import { RULES, temporaryFolder } from './shop.ts'

const SALES = 3_000
/** Entries that are compressed together, as many as a message holds by default. */
const TOGETHER = 500

/** The bytes of all messages there and back, bodies as HTTP carries them. */
async function sentBytes(port: number, seed: number): Promise<{ readonly bytes: number; readonly entries: readonly ListedEntry[] }> {
  const file = join(temporaryFolder(), 'till.sqlite')
  const pos = new PointOfSale(new Database(file))
  let bytes = 0
  const name = `WIRE${seed}`
  const http = httpLink({ url: `http://127.0.0.1:${port}/`, token: name })
  const link: Link = {
    async exchange(message, options) {
      const answer = await http.exchange(message, options)
      bytes += message.length + answer.length
      return answer
    },
  }
  const till = createRegister({
    location: 'BA01',
    register: name,
    database: sqlite(() => new Database(file)),
    publish: RULES,
    transfer: { type: 'push', link },
  })
  await till.install()
  for (const sale of generateSales(seed, SALES)) pos.sell(sale, 'posted')
  await till.synchronize()
  const entries: ListedEntry[] = []
  for (let after = 0; ; after = entries.at(-1)?.entryNo ?? 0) {
    const some = await till.entries({ after, limit: 1_000 })
    entries.push(...some)
    if (some.length < 1_000) break
  }
  expect('what is pending', (await till.status()).pending, 0)
  await till.stop()
  return { bytes, entries }
}

/** The same entries as lines of text, compressed in pieces of as many. */
function compressed(entries: readonly ListedEntry[], lineOf: (entry: ListedEntry) => string): number {
  let bytes = 0
  for (let from = 0; from < entries.length; from += TOGETHER)
    bytes += gzipSync(
      entries
        .slice(from, from + TOGETHER)
        .map(lineOf)
        .join('\n'),
      { level: 1 },
    ).length
  return bytes / entries.length
}

const asJson = (entry: ListedEntry) => JSON.stringify(entry)
const quoted = (value: unknown) => `"${String(value ?? '').replaceAll('"', '""')}"`
const asCsv = ({ entryNo, table, operation, recordId, record, sealedAt }: ListedEntry) =>
  [entryNo, table, operation, ...recordId, ...Object.values(record ?? {}), sealedAt].map(quoted).join(',')

export const wire: Bench = {
  name: 'wire',
  about: `bytes per entry of the messages, there and back, for ${SALES.toLocaleString('en')} of the demo's sales, beside the same entries as JSON and as quoted CSV, gzipped alike`,
  rounds: 3,
  async run({ rounds }) {
    const headOffice = await startHeadOffice()
    const figures = { sent: [] as number[], json: [] as number[], csv: [] as number[] }
    for (let round = 0; round < rounds; round++) {
      const { bytes, entries } = await sentBytes(headOffice.port, round + 1)
      figures.sent.push(bytes / entries.length)
      figures.json.push(compressed(entries, asJson))
      figures.csv.push(compressed(entries, asCsv))
    }
    await headOffice.stop()
    return [
      toResult('wire', 'bytes an entry', figures.sent, figures.json, { of: 'median', bound: '≤', value: 32 }),
      toResult('wire: gzipped CSV', 'bytes an entry', figures.csv, figures.json),
    ]
  },
}
