import { fork } from 'node:child_process'
import { copyFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { jetstream } from '@nats-io/jetstream'
import { connect } from '@nats-io/transport-node'
import pg from 'pg'
import { natsProgram, startNats } from '../examples/support/nats.ts'
import type { Postgres } from '../examples/support/postgres.ts'
import { postgres } from '../src/adapters/postgres/adapter.ts'
import { createCentral, type PushTransfer } from '../src/index.ts'
import type { RegisterName } from '../src/model.ts'
import { httpLink } from '../src/transport/http.ts'
import { type NatsServerOptions, natsConfiguration, natsMailbox, provisionNats } from '../src/transport/nats.ts'
import { subjectToCentral } from '../src/transport/nats-subjects.ts'
import { type Bench, expect, interleave, type Run, toResult } from './measure.ts'
import type { Memory } from './memory.ts'
import { lettersOf } from './nats-letters.ts'
import type { WorkerOptions, WorkerReady, WorkerSaid } from './nats-worker.ts'
import { openTill, ROWS, register, seller, temporaryFolder } from './shop.ts'
import { withPostgres } from './shop-postgres.ts'

/** From one real till. */
const SALES = 5_000
/** From a hundred registers: letters of two receipts, as tills send them while they sell; they lie there when the workers begin. */
const HUNDRED = { registers: 100, letters: 10, receipts: 2, lines: 5 }
/** From ten thousand: ten entries each. */
const MANY = { registers: 10_000, letters: 1, receipts: 1, lines: 8 }
/** Registers of a shop: they sell the same articles, and change the same levels of stock. */
const A_SHOP = 4
/** How many registers are made ready at a time. */
const AT_ONCE = 50
const PATIENCE_MS = 240_000
const CENTRAL = { user: 'central', password: 'central' }

interface Place {
  readonly config: pg.PoolConfig
  readonly hub: NatsServerOptions
  as(register: string): NatsServerOptions
}

/** A server with a database, and a hub with an account for each of the real tills. */
async function withPlace<T>(tills: readonly string[], work: (place: Place, server: Postgres) => Promise<T>): Promise<T> {
  return withPostgres(async (server) => {
    const { config } = await server.createDatabase()
    const names = tills.map((register) => ({ location: 'BA01', register }))
    const accounts = names.map((name) => ({ ...name, user: name.register, password: name.register }))
    const nats = await startNats({ configuration: natsConfiguration({ central: CENTRAL, registers: accounts }) })
    try {
      const hub = { servers: nats.url, credentials: CENTRAL }
      const bounds = { maxBytes: 1_073_741_824, maxLettersPerRegister: 1_000 }
      await provisionNats({ ...hub, registers: names, toCentral: bounds, toRegisters: bounds })
      return await work({ config, hub, as: (register) => ({ servers: nats.url, credentials: { user: register, password: register } }) }, server)
    } finally {
      await nats.stop()
    }
  })
}

/** So many registers of a chain. */
function chain(registers: number, prefix: string): RegisterName[] {
  return Array.from({ length: registers }, (_, n) => ({ location: `BA${Math.floor(n / A_SHOP)}`, register: `${prefix}${n}` }))
}

/** Makes registers known, and answers their tokens. */
async function addRegisters(config: pg.PoolConfig, names: readonly RegisterName[]): Promise<string[]> {
  const pool = new pg.Pool(config)
  const central = createCentral({ database: postgres(pool), subscribe: {} })
  await central.install()
  const tokens: string[] = []
  for (let from = 0; from < names.length; from += AT_ONCE) {
    const added = names.slice(from, from + AT_ONCE).map((name) => central.registers.add(name))
    for (const { token } of await Promise.all(added)) tokens.push(token)
  }
  await central.stop()
  await pool.end()
  return tokens
}

/** A worker of head office; `said` is what it last said. */
class Worker {
  port = 0
  said: WorkerSaid | undefined
  private readonly child
  private readonly kill = () => void this.child.kill('SIGKILL')
  private remembered: ((memory: Memory) => void) | undefined
  private readonly ready: Promise<void>

  constructor(options: WorkerOptions) {
    this.child = fork(join(import.meta.dirname, 'nats-worker.ts'), [JSON.stringify(options)], {
      execPath: process.execPath,
      execArgv: ['--expose-gc'],
    })
    process.once('exit', this.kill)
    this.ready = new Promise((resolve, reject) => {
      this.child.once('exit', (code) => reject(new Error(`nats-worker.ts ended with ${code}`)))
      this.child.on('message', (message: WorkerReady | WorkerSaid) => {
        if ('applied' in message) this.said = message
        if ('applied' in message && message.memory) this.remembered?.(message.memory)
        if ('port' in message) this.port = message.port
        resolve()
      })
    })
  }

  async start(): Promise<void> {
    await this.ready
    this.child.send('start')
  }

  async stop(): Promise<void> {
    const ended = new Promise((resolve) => this.child.once('exit', resolve))
    process.off('exit', this.kill)
    this.child.removeAllListeners('message')
    this.child.send('stop')
    await ended
  }

  async isReady(): Promise<void> {
    await this.ready
  }

  memory(): Promise<Memory> {
    this.child.send('memory')
    return new Promise((resolve) => {
      this.remembered = resolve
    })
  }
}

/** Lays the letters of simulated registers under their subjects; answers how many entries they hold. */
async function lay({ hub }: Place, names: readonly RegisterName[], { letters, receipts, lines }: Omit<typeof HUNDRED, 'registers'>): Promise<number> {
  const nats = await connect({ servers: hub.servers as string, user: CENTRAL.user, pass: CENTRAL.password })
  const js = jetstream(nats)
  for (let from = 0; from < names.length; from += AT_ONCE) {
    await Promise.all(
      names.slice(from, from + AT_ONCE).map(async (name) => {
        for (const letter of await lettersOf(name, { letters, receipts, lines })) await js.publish(subjectToCentral(name), letter)
      }),
    )
  }
  await nats.close()
  return names.length * letters * receipts * (lines + 2)
}

interface Drained {
  /** Entries a second. */
  readonly rate: number
  readonly memory: readonly Memory[]
  /** Of the worker that grew most: in use at the end, over what was when a quarter was done, in bytes. */
  readonly grown: number
  readonly shares: readonly number[]
}

/** How fast so many workers take what lies there. */
async function drain(place: Place, workers: number, entries: number): Promise<Drained> {
  const all = Array.from({ length: workers }, () => new Worker({ config: place.config, hub: place.hub }))
  await Promise.all(all.map((worker) => worker.isReady()))
  const began = performance.timeOrigin + performance.now()
  for (const worker of all) await worker.start()
  const applied = () => all.reduce((sum, { said }) => sum + (said?.applied ?? 0), 0)
  const until = async (share: number) => {
    while (applied() < share * entries) {
      expect('that all is drained in time', performance.timeOrigin + performance.now() - began < PATIENCE_MS, true)
      await sleep(20)
    }
    return Promise.all(all.map((worker) => worker.memory()))
  }
  const first = await until(1 / 4)
  const memory = await until(1)
  const ended = Math.max(...all.map(({ said }) => said?.at ?? 0))
  const grown = Math.max(...memory.map(({ used }, n) => used - (first[n]?.used ?? 0)))
  for (const worker of all) await worker.stop()
  return { rate: entries / ((ended - began) / 1_000), memory, grown, shares: all.map(({ said }) => (said?.applied ?? 0) / entries) }
}

/** One real till and one worker, by either way. */
async function besideHttp(rounds: number) {
  const folder = temporaryFolder()
  const template = join(folder, 'sealed.sqlite')
  const db = openTill(template, 'OFF')
  const till = register(template, 'POS')
  await till.install()
  const sell = seller(db)
  for (let no = 1; no <= SALES; no++) sell(no)
  await till.seal()
  await till.stop()
  db.pragma('wal_checkpoint(TRUNCATE)')
  db.close()
  const turns = 2 * (rounds + 1)
  const names = Array.from({ length: turns }, (_, n) => `POS${n}`)
  return withPlace(names, async (place) => {
    const tokens = await addRegisters(
      place.config,
      names.map((register) => ({ location: 'BA01', register })),
    )
    const worker = new Worker({ config: place.config, hub: place.hub })
    await worker.start()
    let turn = 0
    const send = async (by: (name: string, token: string) => PushTransfer) => {
      const name = names[turn] as string
      const file = join(folder, `${name}.sqlite`)
      copyFileSync(template, file)
      const till = register(file, name, { transfer: by(name, tokens[turn++] as string) })
      await till.status() // opens it
      const began = performance.now()
      const { sent } = await till.synchronize()
      const seconds = (performance.now() - began) / 1_000
      expect('the number of entries sent', sent, SALES * ROWS)
      await till.stop()
      return sent / seconds
    }
    const figures = await interleave(rounds, {
      nats: () => send((register) => ({ type: 'push', mailbox: natsMailbox({ ...place.as(register), location: 'BA01', register }) })),
      http: () => send((_, token) => ({ type: 'push', link: httpLink({ url: `http://127.0.0.1:${worker.port}/`, token }) })),
    })
    await worker.stop()
    return figures
  })
}

/** A hundred registers, taken by one worker and by two. */
async function byWorkers(rounds: number, note: Run['note']) {
  return withPlace([], async (place) => {
    let turn = 0
    const take = async (workers: number) => {
      const names = chain(HUNDRED.registers, `T${turn}-`)
      turn++
      await addRegisters(place.config, names)
      const { rate, shares } = await drain(place, workers, await lay(place, names, HUNDRED))
      note(
        `${workers} worker${workers > 1 ? 's' : ''}: ${Math.round(rate).toLocaleString('en')} entries/s, shares ${shares.map((share) => share.toFixed(2)).join(' and ')}`,
      )
      return rate
    }
    return interleave(rounds, { two: () => take(2), one: () => take(1) })
  })
}

/** Ten thousand registers, taken by two workers. */
async function crowded(note: Run['note']): Promise<Drained> {
  return withPlace([], async (place) => {
    const names = chain(MANY.registers, 'POS')
    const began = performance.now()
    await addRegisters(place.config, names)
    const entries = await lay(place, names, MANY)
    note(`${MANY.registers.toLocaleString('en')} registers added, their letters laid: ${Math.round((performance.now() - began) / 1_000)} s`)
    const drained = await drain(place, 2, entries)
    const mb = (bytes: number) => `${Math.round(bytes / 1_048_576)} MB`
    note(
      `${MANY.registers.toLocaleString('en')} registers: ${Math.round(drained.rate).toLocaleString('en')} entries/s, ${Math.round(drained.rate / 10)} letters/s`,
    )
    for (const { used, peak } of drained.memory) note(`a worker: ${mb(used)} in use at the end, ${mb(peak)} at most; grown by ${mb(drained.grown)}`)
    return drained
  })
}

export const nats: Bench = {
  name: 'nats',
  about: `by NATS: ${(SALES * ROWS).toLocaleString('en')} entries of a till beside HTTP; ${HUNDRED.registers} registers taken by two workers beside one (${cpus().length} cores, which PostgreSQL and the hub need too); ${MANY.registers.toLocaleString('en')} registers with ten entries each`,
  rounds: 3,
  async run({ rounds, note }) {
    if ((await natsProgram()) === undefined) {
      note('left out: there is no nats-server on this machine')
      return []
    }
    const way = await besideHttp(rounds)
    const workers = await byWorkers(rounds, note)
    const crowd = await crowded(note)
    return [
      toResult('nats: one till, beside HTTP', 'entries/s', way.nats, way.http, { of: 'ratio', bound: '≥', value: 0.7 }),
      toResult('nats: two workers, beside one', 'entries/s', workers.two, workers.one, { of: 'ratio', bound: '≥', value: 1.3 }),
      toResult('nats: 10,000 registers, two workers', 'entries/s', [crowd.rate]),
      toResult('nats: 10,000 registers, memory that grew', 'MB', [crowd.grown / 1_048_576], undefined, { of: 'median', bound: '≤', value: 16 }),
    ]
  },
}
