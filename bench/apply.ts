import pg from 'pg'
import { type Postgres, startPostgres } from '../examples/support/postgres.ts'
import { START } from '../src/model.ts'
import { applyByHand, createFloor, stage } from './apply-floor.ts'
import { checkBooks, EPOCH, type HeadOffice, openHeadOffice, send } from './apply-office.ts'
import { Replication } from './apply-replication.ts'
import { batchesOf, entriesIn, type PackedBatch, packed, type Sold } from './apply-stream.ts'
import { type Aim, type Bench, expect, interleave, type Result, toResult } from './measure.ts'
import type { Memory } from './memory.ts'
import { processorMs } from './processor.ts'
import { ROWS } from './shop.ts'

const ENTRIES = 500_000
/** Entries in a batch, for both sides alike; and as registers send them unless they are told otherwise. */
const BATCH = 5_000
const USUAL_BATCH = 500
const MB = 1_048_576

/** What is applied over and over, each time for another register. */
interface Load {
  readonly sold: Sold
  readonly entries: number
  readonly batches: readonly PackedBatch[]
}

async function loadOf(sold: Sold, most: number): Promise<Load> {
  const batches: PackedBatch[] = []
  for (const batch of batchesOf(EPOCH, sold, most, START)) batches.push(await packed(batch))
  const entries = entriesIn(sold)
  expect('the number of entries', batches.at(-1)?.through, entries)
  return { sold, entries, batches }
}

function endsOf({ batches }: Load): readonly number[] {
  return batches.map(({ through }) => through)
}

const perSecond = (applied: Applied) => applied.perSecond
const processorUs = (applied: Applied) => applied.processorUs

/** What a backlog took. */
interface Applied {
  readonly perSecond: number
  /** Processor time of all that worked on it, in microseconds an entry: what else the machine does changes it least. */
  readonly processorUs: number
}

async function measure(entries: number, pids: readonly number[], work: () => Promise<number>): Promise<Applied> {
  const before = processorMs(pids)
  const seconds = await work()
  return { perSecond: entries / seconds, processorUs: ((processorMs(pids) - before) * 1_000) / entries }
}

/** The same by hand. */
class Floor {
  readonly client: pg.Client
  private readonly server: Postgres
  private readonly load: Load
  private rounds = 0

  private constructor(client: pg.Client, server: Postgres, load: Load) {
    this.client = client
    this.server = server
    this.load = load
  }

  static async open(server: Postgres, load: Load): Promise<Floor> {
    const client = new pg.Client((await server.createDatabase()).config)
    await client.connect()
    await createFloor(client)
    for (const batch of batchesOf(EPOCH, load.sold, BATCH, START)) await stage(client, batch)
    await client.query('VACUUM ANALYZE staging')
    return new Floor(client, server, load)
  }

  apply(): Promise<Applied> {
    const { client, load, server } = this
    return measure(load.entries, [server.pid], async () => {
      const began = performance.now()
      await applyByHand(client, `POS${++this.rounds}`, endsOf(load), load.sold.closings)
      return (performance.now() - began) / 1_000
    })
  }

  async close(): Promise<void> {
    await checkBooks(this.client, this.load.sold, this.rounds)
    await this.client.end()
  }
}

/** Rounds at one head office. */
class Rounds {
  private readonly office: HeadOffice
  private readonly server: Postgres
  private readonly registers: string[]
  private readonly sold: Sold
  private done = 0

  constructor(office: HeadOffice, server: Postgres, registers: readonly string[], sold: Sold) {
    this.office = office
    this.server = server
    this.registers = [...registers]
    this.sold = sold
  }

  apply({ entries, batches }: Load): Promise<Applied> {
    this.done++
    const pids = [this.server.pid, this.office.central.child.pid as number]
    return measure(entries, pids, () => send(this.office, this.registers.shift() as string, batches))
  }

  async close(): Promise<void> {
    await checkBooks(this.office.client, this.sold, this.done)
    await this.office.close()
  }
}

export const apply: Bench = {
  name: 'apply',
  about: `entries a second of a backlog (--entries, ${ENTRIES.toLocaleString('en')}) that central archives, mirrors, posts and levels, and closes by days, beside the same by hand in SQL, and beside logical replication that only copies rows`,
  rounds: 3,
  entries: ENTRIES,
  async run({ rounds, entries, note }) {
    const sold = { from: 1, sales: Math.ceil(entries / ROWS), closings: false }
    const [load, usual, closing] = [await loadOf(sold, BATCH), await loadOf(sold, USUAL_BATCH), await loadOf({ ...sold, closings: true }, BATCH)]
    note(`${load.entries.toLocaleString('en')} entries sealed`)
    const names = Array.from({ length: (rounds + 1) * 2 }, (_, n) => `POS${n + 1}`)
    const server = await startPostgres()
    const replication = await Replication.open()
    try {
      const office = new Rounds(await openHeadOffice(server, { registers: names, closings: false }), server, names, sold)
      const closer = new Rounds(await openHeadOffice(server, { registers: names, closings: true }), server, names, sold)
      const [floor, closingFloor] = [await Floor.open(server, load), await Floor.open(server, closing)]
      for (const batch of batchesOf(EPOCH, sold, BATCH, START)) await stage(replication.publisher, batch)
      let copies = 0
      const figures = await interleave(rounds, {
        posted: () => office.apply(load),
        floor: () => floor.apply(),
        usual: () => office.apply(usual),
        closed: () => closer.apply(closing),
        closingFloor: () => closingFloor.apply(),
        copied: () => measure(load.entries, replication.pids, () => replication.copy(`POS${++copies}`, endsOf(load))),
      })
      for (const one of [office, closer, floor, closingFloor]) await one.close()
      const aim = { of: 'ratio', bound: '≥', value: 0.5 } as const
      const beside = (name: string, of: readonly Applied[], by: readonly Applied[], aim?: Aim): Result[] => [
        toResult(`apply: ${name}`, 'entries/s', of.map(perSecond), by.map(perSecond), aim),
        ...(Number.isNaN(of[0]?.processorUs)
          ? []
          : [toResult(`apply: ${name}, processor time`, 'µs an entry', of.map(processorUs), by.map(processorUs))]),
      ]
      return [
        ...beside('archived, mirrored, posted, levelled', figures.posted, figures.floor, aim),
        ...beside(`the same in batches of ${USUAL_BATCH}`, figures.usual, figures.floor),
        ...beside('days closed, too', figures.closed, figures.closingFloor, aim),
        ...beside('rows copied by logical replication', figures.copied, figures.floor),
      ]
    } finally {
      await replication.close()
      await server.stop()
    }
  },
}

/** What central's process holds once a tenth, a half, all of a backlog is applied. */
export const applyMemory: Bench = {
  name: 'apply-memory',
  about: `what central's process holds after a tenth, a half, all of a backlog (--entries, ${ENTRIES.toLocaleString('en')}), and how much more at the end than after a tenth`,
  rounds: 1,
  entries: ENTRIES,
  async run({ rounds, entries, note }) {
    const load = await loadOf({ from: 1, sales: Math.ceil(entries / ROWS), closings: true }, USUAL_BATCH)
    const server = await startPostgres()
    const grown: { used: number; rss: number }[] = []
    try {
      const names = Array.from({ length: rounds }, (_, n) => `POS${n + 1}`)
      for (const name of names) {
        const office = await openHeadOffice(server, { registers: [name], closings: true })
        const samples: Memory[] = []
        let sent = 0
        for (const share of [0.1, 0.5, 1]) {
          const next = Math.ceil(load.batches.length * share)
          await send(office, name, load.batches.slice(sent, next))
          sent = next
          const memory = await office.memory()
          note(
            `${share * 100} %: ${Math.round(memory.used / MB)} MB in use, RSS ${Math.round(memory.rss / MB)} MB, at most ${Math.round(memory.peak / MB)} MB`,
          )
          samples.push(memory)
        }
        const [first, , last] = samples as [Memory, Memory, Memory]
        grown.push({ used: (last.used - first.used) / MB, rss: (last.rss - first.rss) / MB })
        await office.close()
      }
    } finally {
      await server.stop()
    }
    const aim = { of: 'median', bound: '≤', value: 20 } as const
    return [
      toResult(
        'apply-memory: more in use at the end than after a tenth',
        'MB',
        grown.map(({ used }) => used),
        undefined,
        aim,
      ),
      toResult(
        'apply-memory: more RSS',
        'MB',
        grown.map(({ rss }) => rss),
      ),
    ] satisfies Result[]
  },
}
