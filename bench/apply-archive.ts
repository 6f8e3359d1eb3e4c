import { hash } from 'node:crypto'
import { type Postgres, startPostgres } from '../examples/support/postgres.ts'
import { START } from '../src/model.ts'
import { EPOCH, openHeadOffice, send } from './apply-office.ts'
import { batchesOf, type PackedBatch, packed } from './apply-stream.ts'
import { type BuiltArchive, buildArchive, salesEach } from './archive-builder.ts'
import { type Bench, expect, interleave, median, roundsOf, toResult } from './measure.ts'
import { ROWS } from './shop.ts'

const SMALL = 10_000
const LARGE = 10_000_000
const REGISTERS = 20
const TURNS = 5
/** Sales in a turn, in batches as registers send them unless they are told otherwise. */
const SALES = 300
const BATCH = 500
const DIGEST = hash('sha256', 'what came before')

interface Archive {
  /** Applies what a register has sold in a while; answers microseconds an entry. */
  apply(): Promise<number>
  close(): Promise<void>
}

async function openArchive(server: Postgres, entries: number, turns: number): Promise<Archive> {
  const registers = Array.from({ length: REGISTERS }, (_, n) => `POS${n + 1}`)
  const office = await openHeadOffice(server, { registers, closings: false })
  const built: BuiltArchive = { entries, registers: REGISTERS, epoch: EPOCH, digest: DIGEST }
  await buildArchive(office.client, built)
  const standings = new Map(registers.map((register) => [register, { entryNo: salesEach(built) * ROWS, digest: DIGEST }]))
  const waiting: { register: string; batches: PackedBatch[] }[] = []
  for (let turn = 0; turn < turns; turn++) {
    const register = `POS${(turn % REGISTERS) + 1}`
    const start = standings.get(register) ?? START
    const batches: PackedBatch[] = []
    for (const batch of batchesOf(EPOCH, { from: start.entryNo / ROWS + 1, sales: SALES, closings: false }, BATCH, start)) {
      batches.push(await packed(batch))
      standings.set(register, batch.through)
    }
    waiting.push({ register, batches })
  }
  const count = async (sql: string) => Number((await office.client.query(`SELECT ${sql} AS number`)).rows[0].number)
  return {
    async apply() {
      const { register, batches } = waiting.shift() as (typeof waiting)[number]
      return ((await send(office, register, batches)) * 1_000_000) / (SALES * ROWS)
    },
    async close() {
      expect(
        'the number of archived entries',
        await count('(SELECT count(*) FROM sync_archive)'),
        (salesEach(built) * REGISTERS + turns * SALES) * ROWS,
      )
      expect('the stock', await count('(SELECT sum(quantity) FROM stock_levels)'), await count('(SELECT sum(quantity) FROM stock_movements)'))
      await office.close()
    },
  }
}

export const applyArchive: Bench = {
  name: 'apply-archive',
  about: `what an entry costs central where its archive and books hold ${LARGE.toLocaleString('en')} entries (--entries), against ${SMALL.toLocaleString('en')}`,
  rounds: 5,
  entries: LARGE,
  async run({ rounds, entries, note }) {
    const server = await startPostgres({ settings: ['max_wal_size=8GB'] })
    try {
      const turns = (rounds + 1) * TURNS
      const began = performance.now()
      const large = await openArchive(server, entries, turns)
      note(`${entries.toLocaleString('en')} entries built in ${Math.round((performance.now() - began) / 1_000)} s`)
      const small = await openArchive(server, SMALL, turns)
      const figures = await interleave(rounds, { large: () => large.apply(), small: () => small.apply() }, TURNS)
      for (const archive of [large, small]) await archive.close()
      const of = (which: 'large' | 'small') => roundsOf(figures[which], TURNS, median)
      return [toResult('apply-archive: an entry', 'µs', of('large'), of('small'), { of: 'ratio', bound: '≤', value: 1.3 })]
    } finally {
      await server.stop()
    }
  },
}
