import { type ChildProcess, fork } from 'node:child_process'
import { on } from 'node:events'
import { join } from 'node:path'
import { startPostgres } from '../examples/support/postgres.ts'
import { type Bench, expect, toResult } from './measure.ts'
import type { Memory } from './memory.ts'
import { LINES, openTill, ROWS, register, seller, temporaryFolder } from './shop.ts'

/** What the till's process says: at each tenth, and at the end. */
export type TillSaid =
  | { readonly share: number; readonly sent: number; readonly memory: Memory; readonly firstMs: number }
  | { readonly seconds: number; readonly pending: number }

/** Memory of both once so much of the backlog has arrived. */
export interface Sample {
  readonly share: number
  readonly till: Memory
  readonly central: Memory
}

export interface Drained {
  readonly entries: number
  readonly seconds: number
  /** From the moment when the line was back until the first batch was acknowledged. */
  readonly firstMs: number
  readonly samples: readonly Sample[]
}

export interface Backlog {
  readonly entries: number
  /** How long a text each receipt has beside what it has anyway, so that few entries are a large log. */
  readonly textLength?: number
  /** What each process may have in use at most, in MB; one that wants more ends. Default: as Node has it. */
  readonly heapMb?: number
  readonly note?: (text: string) => void
}

/** A till has sold for weeks without a line; now it is back. Both sides are processes of their own. */
export async function drain({ entries, textLength = 0, heapMb, note = () => undefined }: Backlog): Promise<Drained> {
  const file = join(temporaryFolder(), 'till.sqlite')
  const server = await startPostgres()
  const programs: Program[] = []
  try {
    const backlog = await sellForWeeks(file, Math.ceil(entries / ROWS), textLength)
    note(`${backlog.toLocaleString('en')} entries sealed`)
    const { config } = await server.createDatabase()
    const central = start('weeks-offline-central.ts', { config }, heapMb)
    programs.push(central)
    const { port, token } = await central.said<{ port: number; token: string }>()
    const till = start('weeks-offline-till.ts', { file, url: `http://127.0.0.1:${port}/`, token }, heapMb)
    programs.push(till)
    expect('what waits', (await till.said<{ backlog: number }>()).backlog, backlog)
    const drained = await watch(till, central)
    central.child.send('stop')
    expect('the number of movements', await central.said<number>(), (backlog / ROWS) * LINES)
    return { entries: backlog, ...drained }
  } finally {
    for (const { child } of programs) child.kill('SIGKILL')
    await server.stop()
  }
}

async function watch(till: Program, central: Program): Promise<Omit<Drained, 'entries'>> {
  const samples: Sample[] = []
  let firstMs = Number.POSITIVE_INFINITY
  till.child.send('go')
  for (;;) {
    const heard = await till.said<TillSaid>()
    if ('seconds' in heard) {
      expect('what is left', heard.pending, 0)
      return { seconds: heard.seconds, firstMs, samples }
    }
    firstMs = Math.min(firstMs, heard.firstMs)
    central.child.send('memory')
    samples.push({ share: heard.share, till: heard.memory, central: await central.said<Memory>() })
  }
}

async function sellForWeeks(file: string, sales: number, textLength: number): Promise<number> {
  const db = openTill(file, 'OFF')
  const till = register(file, 'POS1')
  await till.install()
  const sell = seller(db)
  for (let no = 1; no <= sales; no++) sell(no)
  if (textLength > 0) db.prepare('UPDATE receipts SET cashier = hex(randomblob(?))').run(textLength / 2)
  const { entries } = await till.seal()
  await till.stop()
  db.close()
  return entries
}

/** A process of its own. What it says waits until it is asked for. */
interface Program {
  readonly child: ChildProcess
  said<T>(): Promise<T>
}

function start(name: string, options: unknown, heapMb: number | undefined): Program {
  const execArgv = ['--expose-gc', ...(heapMb === undefined ? [] : [`--max-old-space-size=${heapMb}`])]
  const child = fork(join(import.meta.dirname, name), [JSON.stringify(options)], { execPath: process.execPath, execArgv })
  const messages = on(child, 'message', { close: ['exit'] })
  return {
    child,
    async said<T>() {
      const { done, value } = await messages.next()
      if (done) throw new Error(`${name} ended with ${child.exitCode ?? child.signalCode} before it was done`)
      return value[0] as T
    },
  }
}

const MB = 1_048_576

export const weeksOffline: Bench = {
  name: 'weeks-offline',
  about: 'a backlog (--entries) that drains by itself: entries a second, the time until the first batch, and the memory of both processes on the way',
  rounds: 1,
  entries: 5_000_000,
  async run({ rounds, entries, note }) {
    const results: Drained[] = []
    for (let round = 0; round < rounds; round++) {
      const drained = await drain({ entries, note })
      for (const { share, till, central } of drained.samples) note(`${Math.round(share * 100)} %: till ${shown(till)}; central ${shown(central)}`)
      results.push(drained)
    }
    const grown = (side: 'till' | 'central', what: 'used' | 'rss') =>
      results.map(({ samples }) => ((samples.at(-1)?.[side][what] ?? 0) - (samples[1]?.[side][what] ?? 0)) / MB)
    return [
      toResult(
        'weeks-offline: drained',
        'entries/s',
        results.map((one) => one.entries / one.seconds),
      ),
      toResult(
        'weeks-offline: until the first batch',
        'ms',
        results.map((one) => one.firstMs),
        undefined,
        { of: 'median', bound: '≤', value: 1_000 },
      ),
      ...(['till', 'central'] as const).flatMap((side) => [
        toResult(`weeks-offline: ${side}, more in use at the end than at 10 %`, 'MB', grown(side, 'used'), undefined, {
          of: 'median',
          bound: '≤',
          value: 20,
        }),
        toResult(`weeks-offline: ${side}, more RSS`, 'MB', grown(side, 'rss')),
      ]),
    ]
  },
}

function shown({ used, rss, peak }: Memory): string {
  return `${Math.round(used / MB)} MB in use, RSS ${Math.round(rss / MB)} MB, at most ${Math.round(peak / MB)} MB`
}
