import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import Database from 'better-sqlite3'
import type pg from 'pg'
import t, { type Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { CentralReplica } from '../../src/central.ts'
import { type Link, mirror, TillsyncError } from '../../src/index.ts'
import type { Mailbox } from '../../src/ports.ts'
import { RegisterReplica } from '../../src/register.ts'
import { eventually } from '../support/eventually.ts'
import { type Faults, faulty } from '../support/faulty-database.ts'
import { Observed } from '../support/observed.ts'
import { PostOffice } from '../support/post-office.ts'
import { createPool, startServer } from '../support/postgres.ts'

const server = await startServer(t)
const POS1 = { location: 'BA01', register: 'POS1' }
/** A start takes less turns of the event loop than this. */
const TURNS = 60

interface Replica {
  start(): Promise<void>
  stop(): Promise<void>
  install(): Promise<unknown>
}

interface Scene {
  readonly replica: Replica
  readonly observed: Observed
  /** What the replica has said that failed. */
  readonly failed: TillsyncError[]
  /** What it should be seen to do while it runs. */
  readonly runs: readonly string[]
  /** Of the host's pool: the library lets go of what it hung onto it. */
  readonly pool?: pg.Pool
}

async function central(t: Test): Promise<Scene> {
  const pool = await createPool(t, server)
  await pool.query('CREATE TABLE items (item_no text PRIMARY KEY, name text)')
  const observed = new Observed()
  const replica = new CentralReplica(
    {
      database: observed.database(postgres(pool)),
      subscribe: { receipts: () => undefined },
      publish: { items: {} },
      retainArchiveMs: 30 * 86_400_000,
      mailboxes: [observed.mailbox(new PostOffice().central())],
      pull: { token: () => 'x'.repeat(43), fetch: async () => Promise.reject(new Error('switched off')) },
    },
    observed.clock,
  )
  await replica.install()
  await replica.registers.add({ ...POS1, pull: { url: 'http://till/' } })
  t.teardown(() => replica.stop())
  const failed: TillsyncError[] = []
  replica.on('failed', ({ error }) => failed.push(error))
  return { replica, observed, failed, pool, runs: ['a mailbox', 'a wait', 'a watch'] }
}

const noLine: Link = { exchange: async () => Promise.reject(new TillsyncError('ERR_LINK', 'There is no line', { retryable: true })) }

async function register(t: Test, transfer: { readonly link: Link } | { readonly mailbox: Mailbox }, observed: Observed): Promise<Scene> {
  const file = join(t.testdir(), 'till.sqlite')
  const db = new Database(file)
  db.pragma('journal_mode = WAL')
  db.exec('CREATE TABLE receipts (id INTEGER PRIMARY KEY); CREATE TABLE items (item_no TEXT PRIMARY KEY, name TEXT)')
  const replica = new RegisterReplica(
    {
      ...POS1,
      database: observed.database(sqlite(() => new Database(file))),
      publish: { receipts: {} },
      subscribe: { items: mirror({ notify: ['name'] }) },
      transfer: { type: 'push', ...transfer },
    } as ConstructorParameters<typeof RegisterReplica>[0],
    observed.clock,
  )
  await replica.install()
  t.teardown(async () => {
    await replica.stop()
    db.close()
  })
  const failed: TillsyncError[] = []
  replica.on('failed', ({ error }) => failed.push(error))
  return { replica, observed, failed, runs: ['mailbox' in transfer ? 'a mailbox' : 'a wait', 'a watch'] }
}

const SCENES: Readonly<Record<string, (t: Test) => Promise<Scene>>> = {
  central,
  'a register that pushes': (t) => register(t, { link: noLine }, new Observed()),
  'a register with a mailbox': mailed,
}

function mailed(t: Test): Promise<Scene> {
  const observed = new Observed()
  return register(t, { mailbox: observed.mailbox(new PostOffice().mailbox(POS1)) }, observed)
}

function pushing(t: Test): Promise<Scene> {
  const observed = new Observed()
  return register(t, { link: silent(observed) }, observed)
}

function silent(observed: Observed): Link {
  const hang = (signal: AbortSignal) =>
    new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(new TillsyncError('ERR_ABORTED', 'The exchange was aborted'))))
  return { exchange: (_message, { signal }) => observed.during('an exchange', () => hang(signal)) }
}

const turns = async (n: number) => {
  for (let turned = 0; turned < n; turned++) await turn()
}

/** Nothing is under way, and nothing begins. */
async function rests(t: Test, { observed, failed, pool }: Scene, when: string): Promise<void> {
  t.same(observed.underWay, [], when)
  const { begun } = observed
  await turns(20)
  t.same([observed.underWay, observed.begun - begun], [[], 0], `${when}, and nothing begins`)
  t.same(
    failed.splice(0).map(({ code }) => code),
    [],
    'and nothing has failed',
  )
  if (pool) t.same([pool.listenerCount('acquire'), pool.listenerCount('error')], [0, 1], "the host's pool has its own listeners only")
}

async function isRunning(t: Test, { observed, runs }: Scene): Promise<void> {
  await eventually('it runs', () => runs.every((what) => observed.underWay.includes(what)))
  t.pass('it runs')
}

for (const [name, open] of Object.entries(SCENES)) {
  t.test(`${name}: nothing begins behind a stop, however far the start had come`, async (t) => {
    const scene = await open(t)
    await scene.replica.stop()
    for (let n = 0; n < TURNS; n++) {
      const started = scene.replica.start()
      if (n > 0) await turns(n - 1)
      await scene.replica.stop()
      await rests(t, scene, `${n} turns behind the start`)
      await started
      await rests(t, scene, 'when the start is over')
    }
  })

  t.test(`${name}: what is asked for last holds, however close they follow each other`, async (t) => {
    const scene = await open(t)
    const { replica } = scene
    for (let n = 0; n < 6; n++) {
      await Promise.all([replica.start(), turns(n).then(() => replica.stop()), turns(2 * n).then(() => replica.start())])
      await isRunning(t, scene)
      await Promise.all([replica.stop(), turns(n).then(() => replica.stop())])
      await rests(t, scene, 'stopped twice')
      await Promise.all([replica.start(), replica.start(), turns(n).then(() => replica.start())])
      await isRunning(t, scene)
      await Promise.all([replica.stop(), turns(n).then(() => replica.start())])
      await isRunning(t, scene)
      await Promise.all([turns(n).then(() => replica.install()), replica.stop()])
      await replica.stop()
      await rests(t, scene, 'stopped beside an install')
    }
  })
}

for (const [name, open] of Object.entries({ 'a register that pushes': pushing, 'a register with a mailbox': mailed })) {
  for (const isStarted of [false, true])
    t.test(`${name}: a synchronization by hand ends with a stop, ${isStarted ? 'beside' : 'without'} what runs in the background`, async (t) => {
      const scene = await open(t)
      const { observed } = scene
      const replica = scene.replica as RegisterReplica
      for (let n = 0; n < 12; n++) {
        if (isStarted) await replica.start()
        const synchronized = replica.synchronize().catch(({ code }) => code)
        await eventually('a message is on its way', () => ['an exchange', 'a mailbox'].some((what) => observed.underWay.includes(what)))
        await turns(n)
        await replica.stop()
        await rests(t, scene, `${n} turns behind the message`)
        t.equal(await synchronized, 'ERR_ABORTED')
        await rests(t, scene, 'when it is over')
      }
    })
}

t.test('central: pulling by hand ends with a stop, however far it had come', async (t) => {
  const scene = await central(t)
  const replica = scene.replica as CentralReplica
  for (let n = 0; n < 30; n++) {
    await replica.install()
    const pulled = replica.synchronize().catch(({ code }) => code)
    await turns(n)
    await replica.stop()
    await rests(t, scene, `${n} turns behind`)
    await pulled
    await rests(t, scene, 'when it is over')
  }
})

t.test('a register that can not look at its tables when it starts goes on by itself when it can', async (t) => {
  const file = join(t.testdir(), 'till.sqlite')
  const db = new Database(file)
  db.pragma('journal_mode = WAL')
  db.exec('CREATE TABLE receipts (id INTEGER PRIMARY KEY)')
  const faults: Faults = { next: () => undefined }
  const till = new RegisterReplica(
    {
      ...POS1,
      database: faulty(
        sqlite(() => new Database(file)),
        faults,
      ),
      publish: { receipts: {} },
    },
    new Observed().clock,
  )
  t.teardown(async () => {
    await till.stop()
    db.close()
  })
  const failed: string[] = []
  till.on('failed', ({ error }) => failed.push(error.code))
  await till.install()
  faults.next = () => 'lost'
  await till.start()
  t.same(failed.slice(0, 1), ['ERR_DATABASE'])
  db.exec('INSERT INTO receipts VALUES (1)')
  faults.next = () => undefined
  await eventually('it is sealed', async () => (await till.entries()).length === 1)
  await eventually('nothing is wrong any more', async () => (await till.status()).lastError === undefined)
})
