import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { CONTENT_TYPE } from '../../src/transport/http-client.ts'
import { KINDS, openSeat, type Seat, settles } from '../support/fault/seat.ts'
import { ANYTHING, type StepAt } from '../support/fault/step.ts'
import { startServer } from '../support/postgres.ts'
import { argument, Random, seedOfRun } from '../support/random.ts'
import { openShop, type Shop } from '../support/shop.ts'
import type { StepCentralArguments } from './step-central.ts'
import type { StepRegisterArguments } from './step-register.ts'

t.setTimeout(300_000)
const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed} (which kind of till meets which step)`)
const random = new Random(seed)
/** Each step is met by a till of one kind; in a soak, which gives a budget, by both. */
const ofKinds = <T>(steps: readonly T[]): ReadonlyMap<(typeof KINDS)[number], readonly T[]> => {
  const met = steps.map((step) => ({ step, by: argument('ms') === undefined ? [random.pick(KINDS)] : KINDS }))
  return new Map(KINDS.map((kind) => [kind, met.filter(({ by }) => by.includes(kind)).map(({ step }) => step)]))
}

/** A transaction that does this: its last statement before the commit, the commit, and what comes behind it. */
const committing = (statement: string): StepAt => ({ met: [statement, '^COMMIT'] })
const committed = (statement: string): StepAt => ({ met: [statement, '^COMMIT', ANYTHING] })

const SEALING = '(INSERT INTO|COPY) \\S*sync_entries'
const NOTING = 'INSERT INTO \\S*sync_peers'
const PRUNING = 'DELETE FROM \\S*sync_entries'
const BRANCHING = 'INSERT INTO \\S*sync_state.*past'

/** Sales, with one among them that comes in frames. */
function someSales(seat: Seat, count = 12): readonly string[] {
  return [...seat.sales(count / 2), seat.large(40), ...seat.sales(count / 2)]
}

type Death = Pick<StepRegisterArguments, 'at' | 'link'>
const REGISTER_STEPS: Readonly<Record<string, Death>> = {
  'touched, not yet sealed': { at: { met: ['sync_touches'] } },
  'entries written, not committed': { at: committing(SEALING) },
  sealed: { at: committed(SEALING) },
  'a batch was read': { link: 'batch read' },
  'the answer arrived': { link: 'answer heard' },
  'a frame was taken': { link: 'frame taken' },
  'the acknowledgement written, not committed': { at: committing(NOTING) },
  'acknowledged, before the next batch': { at: committed(NOTING) },
  'entries pruned, not committed': { at: committing(PRUNING) },
  'some entries pruned': { at: committed(PRUNING) },
}
const BRANCH_STEPS: Readonly<Record<string, Death>> = {
  'a new epoch written, not committed': { at: committing(BRANCHING) },
  'a new epoch begun, nobody told': { at: committed(BRANCHING) },
}

function child(file: string, options: unknown): ChildProcess {
  return fork(join(import.meta.dirname, file), [JSON.stringify(options)], { execArgv: [], stdio: ['ignore', 'inherit', 'pipe', 'ipc'] })
}

/** A till's process that sells, exchanges and prunes. Answers the signal that ended it. */
async function run(seat: Seat, url: string, death: Death, sales: readonly string[], started?: (process: ChildProcess) => void) {
  const { location, register, token, where } = seat
  const options: StepRegisterArguments = { location, register, token, url, ...where, ...death, sales, prune: true }
  const process = child('step-register.ts', options)
  started?.(process)
  const said = text(process.stderr as NodeJS.ReadableStream)
  const [code, signal] = await once(process, 'exit')
  if (code !== null && code !== 0) throw new Error(`The till ended with ${code}: ${await said}`)
  return signal as NodeJS.Signals | null
}

/** What lies between a till and central: tells of each message before it is passed on, and of each answer. */
async function between(t: Test, url: string, at: { readonly message?: () => Promise<void>; readonly answer?: () => Promise<void> }): Promise<string> {
  const http = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    await at.message?.()
    const headers = { authorization: String(request.headers.authorization), 'content-type': CONTENT_TYPE }
    const answer = await fetch(url, { method: 'POST', headers, body: Buffer.concat(chunks) })
    const bytes = Buffer.from(await answer.arrayBuffer())
    await at.answer?.()
    response.writeHead(answer.status, { 'content-type': CONTENT_TYPE }).end(bytes)
  }).listen(0, '127.0.0.1')
  await once(http, 'listening')
  t.teardown(() => {
    http.close()
    http.closeAllConnections()
  })
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}/`
}

async function opened(t: Test, kind: (typeof KINDS)[number]): Promise<{ readonly shop: Shop; readonly seat: Seat }> {
  const shop = await openShop(t, server)
  const seat = await openSeat(t, kind, server, shop)
  const replica = seat.replica(shop.url)
  await replica.install()
  for (const sale of seat.sales(12)) await seat.sell(sale)
  await replica.synchronize()
  await replica.stop()
  return { shop, seat }
}

/** Another process goes on, and all is well. */
async function recovers(t: Test, shop: Shop, seat: Seat, message: string): Promise<void> {
  const replica = seat.replica(shop.url)
  await replica.install()
  await seat.sell(seat.sales(1)[0] as string)
  await settles(t, shop, seat, replica, message)
  await replica.prune()
  await replica.stop()
}

const [registerSteps, ways, branchSteps] = [
  ofKinds(Object.entries(REGISTER_STEPS)),
  ofKinds(['message', 'answer'] as const),
  ofKinds(Object.entries(BRANCH_STEPS)),
]
for (const kind of KINDS) {
  t.test(`${kind}: a till killed at each step of a run: nothing is lost, nothing doubled`, async (t) => {
    const { shop, seat } = await opened(t, kind)
    for (const [name, death] of registerSteps.get(kind) ?? []) {
      t.equal(await run(seat, shop.url, death, someSales(seat)), 'SIGKILL', `killed where ${name}`)
      await recovers(t, shop, seat, name)
    }
  })

  t.test(`${kind}: a till killed while its message is on the way, and while the answer is`, async (t) => {
    const { shop, seat } = await opened(t, kind)
    for (const at of ways.get(kind) ?? []) {
      let victim: ChildProcess | undefined
      const kill = async (): Promise<void> => {
        if (victim?.exitCode !== null || victim.signalCode !== null) return
        const gone = once(victim, 'exit')
        victim.kill('SIGKILL')
        await gone
      }
      const url = await between(t, shop.url, { [at]: kill })
      const signal = await run(seat, url, {}, someSales(seat), (process) => {
        victim = process
      })
      t.equal(signal, 'SIGKILL', `killed with the ${at} on the way`)
      await recovers(t, shop, seat, `${at} on the way`)
    }
  })

  t.test(`${kind}: a restored till killed while it begins a new epoch`, async (t) => {
    const { shop, seat } = await opened(t, kind)
    for (const [name, death] of branchSteps.get(kind) ?? []) {
      await seat.backup()
      const lost = seat.sales(3)
      t.equal(await run(seat, shop.url, {}, lost), null)
      await seat.restore()
      t.equal(await run(seat, shop.url, death, []), 'SIGKILL', `killed where ${name}`)
      // What the backup did not have is entered again, alike: it is the same sales.
      for (const sale of lost) await seat.sell(sale)
      await recovers(t, shop, seat, name)
      t.same(
        (await shop.central.orphans.list()).filter(({ state }) => state === 'orphaned'),
        [],
        name,
      )
    }
  })
}

const ARCHIVING = '(INSERT INTO|COPY) \\S*sync_archive'
const STANDING = 'UPDATE \\S*sync_registers.*SET entry_no'
const STAGING = 'INSERT INTO \\S*sync_frames'
const CENTRAL_STEPS: Readonly<Record<string, StepAt>> = {
  'the first epoch begun, not committed': { met: ['INSERT INTO \\S*sync_epochs', ANYTHING] },
  "the register's row locked": { met: ['FOR UPDATE OF r NOWAIT', ANYTHING] },
  'entries archived, not mirrored': { met: [ARCHIVING, ANYTHING] },
  'stock moved, levels not written': { met: ['(INSERT INTO|COPY) \\S*stock_movements', ANYTHING] },
  'a frame staged, not committed': { met: [STAGING, '^COMMIT'] },
  'a frame staged, not answered': { met: [STAGING, '^COMMIT'], when: 'after' },
  'the last frame come, not committed': { met: [STAGING, ARCHIVING, '^COMMIT'] },
  'the standing written, not committed': { met: [ARCHIVING, STANDING, '^COMMIT'] },
  'the commit on its way to PostgreSQL': { met: [ARCHIVING, '^COMMIT'], when: 'sent' },
  'committed, not answered': { met: [ARCHIVING, '^COMMIT'], when: 'after' },
  'the beginning and the lock on their way, together': { met: ['^BEGIN.*FOR UPDATE OF r NOWAIT'], when: 'sent', together: true },
  'the archive and what follows it on their way, together': { met: [`${ARCHIVING}.*\n`], when: 'sent', together: true },
  'the standing and its commit on their way, together': { met: [`${STANDING}.*\n.*COMMIT`], when: 'sent', together: true },
}

t.test('central killed at each step of a batch: nothing is lost, nothing doubled', async (t) => {
  const shop = await openShop(t, server)
  const { rows } = await shop.pool.query('SELECT current_database() AS name')
  const { config } = server.database(rows[0].name)
  for (const [n, [name, at]] of Object.entries(CENTRAL_STEPS).entries()) {
    const seat = await openSeat(t, KINDS[n % 2] ?? 'sqlite', server, shop, `POS${n + 1}`)
    const options: StepCentralArguments = { config, at }
    const central = child('step-central.ts', options)
    t.teardown(() => central.kill('SIGKILL'))
    const gone = once(central, 'exit')
    const [port] = await once(central, 'message')
    const replica = seat.replica(`http://127.0.0.1:${port}/`, { bytesPerRun: 1_024 })
    await replica.install()
    for (const sale of someSales(seat)) await seat.sell(sale)
    await t.rejects(replica.synchronize(), { code: 'ERR_LINK', retryable: true })
    t.equal((await gone)[1], 'SIGKILL', `killed where ${name}`)
    await replica.stop()
    await recovers(t, shop, seat, name)
  }
})
