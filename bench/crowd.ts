import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { CentralReady, Committed, Used } from './central.ts'
import { type Bench, expect, type Result, toResult } from './measure.ts'
import { type Program, startProgram } from './program.ts'
import { openTill, ROWS, register, seller, temporaryFolder } from './shop.ts'
import { withPostgres } from './shop-postgres.ts'

const REGISTERS = 1_000
const IDLE_MS = 60_000
/** 100,000 entries in all, by one register or by all of them. */
const SALES = 14_286
const SALES_EACH = 15

/** What the process of `crowd-tills.ts` plays: tills of these names, each with a copy of this file. */
export interface CrowdTills {
  readonly port: number
  readonly tokens: Readonly<Record<string, string>>
  readonly file: string
}

async function sealedTill(file: string, sales: number): Promise<void> {
  const db = openTill(file, 'OFF')
  const till = register(file, 'POS')
  await till.install()
  const sell = seller(db)
  for (let no = 1; no <= sales; no++) sell(no)
  await till.seal()
  await till.stop()
  db.pragma('wal_checkpoint(TRUNCATE)')
  db.close()
}

async function usedBy({ child }: Program<CentralReady>): Promise<Used> {
  child.send('use')
  return new Promise((resolve) => {
    const listen = (message: { used?: Used }) => {
      if (message.used === undefined) return
      child.off('message', listen)
      resolve(message.used)
    }
    child.on('message', listen)
  })
}

/** How fast central commits what the tills of these names have, in entries a second; then, with `idleMs`, what it takes of a core and holds while all are idle. */
async function drain(file: string, names: readonly string[], sales: number, idleMs: number) {
  return withPostgres(async (server) => {
    const { config } = await server.createDatabase()
    const central = await startProgram<CentralReady>('central.ts', { config, registers: names })
    const { port, tokens, used } = central.ready
    let committed = 0
    let last = 0
    const through = new Map<string, number>()
    central.child.on('message', (message: Partial<Committed>) => {
      if (message.register === undefined || message.through === undefined || message.at === undefined) return
      committed += message.through - (through.get(message.register) ?? 0)
      through.set(message.register, message.through)
      last = message.at
    })
    const tills = await startProgram('crowd-tills.ts', { port, tokens, file } satisfies CrowdTills)
    const began = performance.timeOrigin + performance.now()
    tills.child.send('start')
    for (let waited = 0; committed < names.length * sales * ROWS; waited++) {
      expect('that all arrives within five minutes', waited < 3_000, true)
      await sleep(100)
    }
    const rate = committed / ((last - began) / 1_000)
    let idle: { readonly share: number; readonly megabytes: number } | undefined
    if (idleMs > 0) {
      await sleep(10_000) // until all have connected
      const before = await usedBy(central)
      await sleep(idleMs)
      const after = await usedBy(central)
      idle = { share: ((after.cpuMs - before.cpuMs) / idleMs) * 100, megabytes: (after.bytes - used.bytes) / 1_048_576 }
    }
    await tills.stop()
    await central.stop()
    return { rate, idle }
  })
}

export const crowd: Bench = {
  name: 'crowd',
  about: `${REGISTERS.toLocaleString('en')} registers on one central: how fast it takes 100 entries from each, against 100,000 from one; and what another one needs while all are idle and wait for an answer`,
  rounds: 1,
  async run({ rounds, note }) {
    const folder = temporaryFolder()
    const [large, small, empty] = ['large.sqlite', 'small.sqlite', 'empty.sqlite'].map((name) => join(folder, name)) as [string, string, string]
    await sealedTill(large, SALES)
    await sealedTill(small, SALES_EACH)
    await sealedTill(empty, 0)
    const many = Array.from({ length: REGISTERS }, (_, n) => `POS${n + 1}`)
    const rates: { one: number; many: number }[] = []
    const idles: { share: number; megabytes: number }[] = []
    for (let round = 0; round < rounds; round++) {
      const one = await drain(large, ['POS1'], SALES, 0)
      note(`one register: ${Math.round(one.rate).toLocaleString('en')} entries/s`)
      const all = await drain(small, many, SALES_EACH, 0)
      note(`${REGISTERS.toLocaleString('en')} registers: ${Math.round(all.rate).toLocaleString('en')} entries/s`)
      rates.push({ one: one.rate, many: all.rate })
      const { idle } = await drain(empty, many, 0, IDLE_MS)
      if (idle) idles.push(idle)
    }
    const results: Result[] = [
      toResult(
        'crowd: drained',
        'entries/s',
        rates.map(({ many }) => many),
        rates.map(({ one }) => one),
        { of: 'ratio', bound: '≥', value: 0.7 },
      ),
      toResult(
        'crowd: idle, CPU',
        '% of a core',
        idles.map(({ share }) => share),
        undefined,
        { of: 'median', bound: '≤', value: 3 },
      ),
      toResult(
        'crowd: idle, memory above an empty central',
        'MB',
        idles.map(({ megabytes }) => megabytes),
        undefined,
        { of: 'median', bound: '≤', value: 100 },
      ),
    ]
    return results
  },
}
