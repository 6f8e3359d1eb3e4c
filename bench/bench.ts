import { writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import { join } from 'node:path'
import Table from 'cli-table3'
import { Command, InvalidArgumentError } from 'commander'
import { apply, applyMemory } from './apply.ts'
import { applyArchive } from './apply-archive.ts'
import { audiences } from './audiences.ts'
import { captureFull, captureOff, updateRow } from './capture.ts'
import { capturePostgres } from './capture-postgres.ts'
import { crowd } from './crowd.ts'
import { eventLoop } from './event-loop.ts'
import { file } from './file.ts'
import { lag } from './lag.ts'
import { largeLog } from './large-log.ts'
import type { Bench, Result } from './measure.ts'
import { nats } from './nats.ts'
import { pipeline } from './pipeline.ts'
import { salesP99 } from './sales-p99.ts'
import { seal } from './seal.ts'
import { sealPostgres } from './seal-postgres.ts'
import { snapshot } from './snapshot.ts'
import { weeksOffline } from './weeks-offline.ts'
import { wire } from './wire.ts'

const BENCHES: readonly Bench[] = [
  captureOff,
  captureFull,
  updateRow,
  capturePostgres,
  seal,
  sealPostgres,
  pipeline,
  file,
  largeLog,
  eventLoop,
  salesP99,
  wire,
  lag,
  crowd,
  nats,
  audiences,
  snapshot,
  weeksOffline,
  apply,
  applyMemory,
  applyArchive,
]
const RESULTS = join(import.meta.dirname, 'results.json')

const command = new Command('npm run bench --')
  .description('Measures the library against baselines of the same run: interleaved rounds, medians, ratios.')
  .argument('[name...]', `which: ${BENCHES.map(({ name }) => name).join(', ')} (default: all)`, named, [])
  .option('--rounds <n>', 'rounds of each, instead of its own number', wholeNumber)
  .option('--entries <n>', 'entries to be worked on, instead of its own number, where the bench says (--entries)', wholeNumber)
  .option('--list', 'say what there is')
  .parse()
const { rounds, entries, list } = command.opts<{ rounds?: number; entries?: number; list?: true }>()
const names = command.processedArgs[0] as string[]

if (list) for (const { name, about } of BENCHES) console.log(`${name}: ${about}`)
else await runAll(BENCHES.filter(({ name }) => names.length === 0 || names.includes(name)))

async function runAll(benches: readonly Bench[]): Promise<void> {
  console.log(`Node ${process.versions.node}, ${cpus().length} × ${cpus()[0]?.model}\n`)
  const results: Result[] = []
  for (const bench of benches) {
    console.log(`${bench.name}: ${bench.about}`)
    results.push(
      ...(await bench.run({ rounds: rounds ?? bench.rounds, entries: entries ?? bench.entries ?? 0, note: (text) => console.log(`  ${text}`) })),
    )
  }
  console.log(`\n${tableOf(results)}`)
  await writeFile(RESULTS, `${JSON.stringify(results, null, 2)}\n`)
}

function tableOf(results: readonly Result[]): string {
  const head = ['', 'unit', 'median', 'min', 'max', 'baseline', 'ratio', 'difference', 'aim', 'holds']
  const table = new Table({ head, style: { head: [], border: [] } })
  const show = (figure: number | null) => (figure === null ? '' : figure.toLocaleString('en'))
  for (const { name, unit, median, min, max, baseline, ratio, difference, aim, holds } of results) {
    const verdict = holds === null ? '' : holds ? 'yes' : 'NO'
    table.push([name, unit, show(median), show(min), show(max), show(baseline), show(ratio), show(difference), aim ?? '', verdict])
  }
  return table.toString()
}

function named(name: string, before: string[]): string[] {
  if (BENCHES.some((bench) => bench.name === name)) return [...before, name]
  throw new InvalidArgumentError(`There is no such bench. There are: ${BENCHES.map((bench) => bench.name).join(', ')}.`)
}

function wholeNumber(text: string): number {
  const number = Number(text)
  if (Number.isSafeInteger(number) && number >= 1) return number
  throw new InvalidArgumentError('Expected a whole number from 1 up.')
}
