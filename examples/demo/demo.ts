import { existsSync } from 'node:fs'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { styleText } from 'node:util'
import { Command, InvalidArgumentError, Option } from 'commander'
import { TillsyncError } from '../../src/index.ts'
import { startPostgres } from '../support/postgres.ts'
import { count, createDisplay } from './display.ts'
import { generateSales } from './generator.ts'
import { checkNats } from './hub.ts'
import type { LinkName } from './messages.ts'
import { printProof } from './proof-table.ts'
import { dealOut, type Sale } from './sales.ts'
import { readSales, SalesFileError } from './sales-file.ts'
import { Show } from './show.ts'

interface Options {
  readonly sales?: string
  readonly receipts: number
  readonly rate?: number
  readonly tills: number
  readonly seed: number
  readonly link: LinkName
  readonly keep: boolean
  readonly look?: string
}

/** How long the tills sell where no rate is given. */
const SELLING_SECONDS = 16
const RECEIPTS = 480

const { look, ...options } = new Command('npm run demo --')
  .description(
    'Tills sell while the network goes away, a till is killed, a receipt is wrong; they close, correct, send again.\nHead office sends them items, prices, a promotion, and confirms what they order.\nAt the end, tables prove that head office has every line once, and each till what is meant for it.',
  )
  .option('--sales <file>', 'sell the invoices of a CSV file in the columns of UCI Online Retail')
  .option('--receipts <count>', 'how many receipts to make up instead', whole(1), RECEIPTS)
  .option('--rate <count>', `receipts per second and till (default: all in about ${SELLING_SECONDS} seconds)`, positive)
  .option('--tills <count>', 'how many tills', whole(1, 20), 3)
  .option('--seed <number>', 'of the sales and of the moment of the crash', whole(0), Math.floor(Math.random() * 1e6))
  .addOption(new Option('--link <way>', 'how tills and head office reach each other').choices(['http', 'nats', 'file']).default('http'))
  .option('--keep', 'leave the databases for looking', false)
  .option('--look <folder>', 'open the head office that a demo with --keep left, until Ctrl-C')
  .parse()
  .opts<Options>()

process.exit(await (look === undefined ? run(options) : lookInto(look)))

async function run({ sales: file, receipts, tills, seed, link, keep, rate: given }: Omit<Options, 'look'>): Promise<number> {
  let sales: readonly Sale[]
  try {
    if (link === 'nats') await checkNats()
    sales = file === undefined ? generateSales(seed, receipts) : readSales(file)
  } catch (error) {
    if (error instanceof TillsyncError) console.error(`${error.code}: ${error.message}\n${error.hint}`)
    else if (error instanceof SalesFileError) console.error(error.message)
    else throw error
    return 1
  }
  const shares = dealOut(sales, Math.min(tills, sales.length))
  const rate = given ?? Math.min(200, Math.ceil(sales.length / shares.length) / SELLING_SECONDS)
  console.log(
    `${styleText('bold', 'tillsync')}: ${count(sales.length, 'receipt')} ${file === undefined ? 'made up' : `of ${file}`}, ${count(shares.length, 'till')}, seed ${seed}`,
  )
  console.log('Each till is a process with its own SQLite file; head office is a process with a real PostgreSQL.\n')

  const folder = await mkdtemp(join(tmpdir(), 'tillsync-demo-'))
  await chmod(folder, 0o711) // PostgreSQL may run as another user, who must come through here
  const stopping = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stopping.abort(new Error('Interrupted')))
  const show = new Show({ folder, shares, rate, link, seed }, createDisplay(), stopping)
  try {
    const proof = await show.run()
    const holds = printProof(proof)
    console.log(
      holds
        ? styleText(['bold', 'green'], 'Every line arrived, and is in the books once; each till has what is meant for it.')
        : styleText(['bold', 'red'], 'The proof failed.'),
    )
    return holds ? 0 : 1
  } catch (error) {
    console.error(styleText('red', `\nThe demo failed: ${(error as Error).message.trim()}`))
    return 1
  } finally {
    await show.close()
    if (keep) tellKept(folder)
    else await rm(folder, { recursive: true, force: true, maxRetries: 5 })
  }
}

function tellKept(folder: string): void {
  console.log(`\nThe databases are in ${folder}:`)
  console.log('  till-1.sqlite …  the tills, for any SQLite tool; what was sealed is in sync_entries')
  console.log(`  head-office      PostgreSQL; npm run demo -- --look ${folder}`)
}

async function lookInto(folder: string): Promise<number> {
  if (!existsSync(join(folder, 'head-office'))) {
    console.error(`${folder} is not what a demo with --keep left: it holds no head-office`)
    return 1
  }
  const server = await startPostgres({ folder: join(folder, 'head-office') })
  const { connectionString } = server.database('head_office')
  console.log(
    `Head office is open at ${connectionString}\nSee stock_movements, stock_levels, posted_plu_closings, sync_archive, receipts, internal_orders. Ctrl-C ends it.`,
  )
  const waiting = setInterval(() => undefined, 60_000)
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve())
  })
  clearInterval(waiting)
  await server.stop()
  return 0
}

function whole(from: number, to = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = Number(text)
    if (/^\d+$/.test(text) && value >= from && value <= to) return value
    throw new InvalidArgumentError(`Expected a whole number from ${from} up${to < Number.MAX_SAFE_INTEGER ? ` to ${to}` : ''}.`)
  }
}

function positive(text: string): number {
  const value = Number(text)
  if (value > 0 && value <= 10_000) return value
  throw new InvalidArgumentError('Expected a number above 0, at most 10000.')
}
