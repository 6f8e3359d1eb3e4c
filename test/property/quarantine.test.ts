import { setTimeout as sleep } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Central, knownItems, mirror, stockMovements } from '../../src/index.ts'
import { scripted } from '../support/links.ts'
import { startServer } from '../support/postgres.ts'
import { line } from '../support/quarantine.ts'
import { appliedWith, holds } from '../support/quarantine-oracle.ts'
import { budgetOfRun, Random, roundsOfRun, seedOfRun } from '../support/random.ts'
import { movementsAt, openShop } from '../support/shop.ts'
import { CENTRAL_SCHEMA } from '../support/tables.ts'

const TIMEOUT_MS = budgetOfRun(30_000) + 120_000
t.setTimeout(TIMEOUT_MS)
const server = await startServer(t)
const seed = seedOfRun()
t.comment(`--seed=${seed}`)

/** What makes a receipt one that can't be applied, each by another way. */
const POISONS = ['JS', 'SQL', 'INVALID', 'UNKNOWN', 'COMMIT'] as const
const GOOD = ['A', 'B', 'C']

const SCHEMA = `${CENTRAL_SCHEMA}
  CREATE TABLE items (item_no text PRIMARY KEY);
  INSERT INTO items VALUES ('A'), ('B'), ('C'), ('JS'), ('SQL'), ('INVALID'), ('COMMIT');
  CREATE TABLE poisons (item_no text PRIMARY KEY);
  INSERT INTO poisons VALUES ('SQL'), ('COMMIT');
  CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF NEW.item_no = TG_ARGV[0] AND EXISTS (SELECT FROM poisons WHERE item_no = NEW.item_no) THEN RAISE EXCEPTION 'poison'; END IF;
    RETURN NEW; END $$;
  CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON receipt_lines FOR EACH ROW EXECUTE FUNCTION guard('SQL');
  CREATE CONSTRAINT TRIGGER late_guard AFTER INSERT OR UPDATE ON receipt_lines DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION guard('COMMIT')`

/** What waits is what the proofs name, with the applied receipts that can't be mapped any more, and nothing else. Others may be at work: then nothing is said. */
async function proves(t: Test, central: Central, unmapped: readonly string[], when: string): Promise<boolean> {
  const waiting = async () => (await central.quarantine.list({ limit: 1_000 })).map(({ id }) => id)
  const before = await waiting()
  const { differences } = await central.reconcile({ location: 'BA01', businessDate: '2026-11-21' })
  const { registers } = await central.audit({ location: 'BA01' })
  if (String(await waiting()) !== String(before)) return true
  const named = differences.map(({ why, quarantineId, recordId }) => (why === 'quarantined' ? quarantineId : `${why} ${recordId}`))
  const found = registers.flatMap(({ findings }) => findings.map((finding) => (finding.code === 'QUARANTINED' ? finding.id : finding.code)))
  const sorted = (all: readonly unknown[]) => all.map(String).sort()
  const expected = [...before, ...unmapped.map((recordId) => `unmapped ${recordId}`)]
  return t.same([sorted(named), sorted(found)], [sorted(expected), sorted(before)], `what waits is named ${when}`)
}

async function round(t: Test, random: Random): Promise<boolean> {
  const mended = new Set<string>()
  const isPoison = (items: readonly string[], poison: string) => !mended.has(poison) && items.includes(poison)
  const movements = movementsAt('BA01')
  const itemsOf = (receipt: { parts: Readonly<Record<string, readonly { item_no: string }[]>> }) =>
    (receipt.parts.receipt_lines ?? []).map((one) => one.item_no)
  const shop = await openShop(t, server, {
    schema: SCHEMA,
    subscribe: {
      receipts: [
        mirror({ origin: ['location', 'register'] }),
        stockMovements((receipt) => {
          if (isPoison(itemsOf(receipt as never), 'JS')) throw new Error('poison')
          return movements(receipt)
        }),
      ],
    },
    validate: {
      receipts: [
        (receipt) => (isPoison(itemsOf(receipt as never), 'INVALID') ? { message: 'poison' } : undefined),
        knownItems({ items: { receipt_lines: 'item_no' }, in: { table: 'items', column: 'item_no' } }),
      ],
    },
    retry: { minMs: 20, maxMs: 200, perTurn: random.int(1, 20) },
  })
  const centrals = [shop.central, shop.again()]
  if (random.chance(0.5)) await (centrals[1] as (typeof centrals)[0]).start()
  let losses = 0
  const till = await shop.addTill('POS1', {
    transfer: { recordsPerRun: random.pick([1, 5, 40, 400]) },
    link: (inner) => scripted(inner, () => (losses > 0 && losses-- ? random.pick(['message lost', 'answer lost']) : 'whole')),
  })
  const { db, cashier } = till
  const item = () => (random.chance(0.25) ? random.pick(POISONS) : random.pick(GOOD))
  const synchronize = async () => {
    for (let tries = 0; ; tries++) {
      try {
        return await till.replica.synchronize()
      } catch (error) {
        if (tries === 40 || !(error as { retryable?: boolean }).retryable) throw error
      }
    }
  }
  /** One of the latest few, so that each has a history. */
  const one = (): number =>
    (db.prepare('SELECT id FROM receipts ORDER BY id DESC LIMIT 1 OFFSET ?').pluck().get(random.int(0, 3)) as number | undefined) ?? 0
  const change = () =>
    db.prepare('UPDATE receipt_lines SET item_no = ?, quantity = ? WHERE receipt_id = ?').run(item(), String(random.int(1, 9)), one())
  const mend = async (poison: string) => {
    mended.add(poison)
    await shop.pool.query('DELETE FROM poisons WHERE item_no = $1', [poison])
    await shop.pool.query('INSERT INTO items VALUES ($1) ON CONFLICT DO NOTHING', [poison])
  }
  /** Tried again by several at once; one of them may find the register busy for too long, or the document gone. */
  const retry = async () => {
    const held = await shop.central.quarantine.list({ limit: 5 })
    const all = centrals.flatMap((central) => [
      central.quarantine.retry({}),
      ...held.slice(0, random.int(0, 2)).map(({ id }) => central.quarantine.retry(id)),
    ])
    for (const { status, reason } of (await Promise.allSettled(all)) as { status: string; reason?: { code: string; retryable: boolean } }[])
      if (status === 'rejected' && reason?.code !== 'ERR_QUARANTINE' && !reason?.retryable) throw reason
  }
  /** By several at once too; one of them may find a register busy for too long, or its connection cut. */
  const replay = async () => {
    const all = random.shuffle(centrals).slice(0, random.int(1, 2))
    for (const result of await Promise.allSettled(all.map((central) => central.replay({ table: 'receipts' }))))
      if (result.status === 'rejected' && !result.reason?.retryable) throw result.reason
  }
  const steps: readonly (() => unknown)[] = [
    () =>
      cashier.sell(
        `R-${random.int(1, 1e9)}`,
        Array.from({ length: random.int(1, 3) }, () => line(item(), String(random.int(1, 9)))),
      ),
    () => cashier.sell(`R-${random.int(1, 1e9)}`, [line(item(), String(random.int(1, 9)))]),
    change,
    change,
    change,
    async () => {
      change()
      await synchronize()
    },
    () => db.prepare("UPDATE receipts SET status = 'voided' WHERE id = ?").run(one()),
    () => db.prepare('DELETE FROM receipts WHERE id = ?').run(one()),
    () => db.prepare('DELETE FROM receipts WHERE id = (SELECT max(id) FROM receipts)').run(),
    () => till.replica.seal(),
    () => till.replica.seal(),
    synchronize,
    async () => {
      losses = random.int(1, 3)
      await synchronize()
    },
    async () => {
      // Central's connections die at any moment of a run.
      const kill = async () => {
        await sleep(random.int(0, 30))
        await shop.pool.query(
          `SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
        )
      }
      await Promise.all([synchronize(), kill().catch(() => undefined)])
      // One that was cut while nobody used it is noticed by who does next: not by a later step.
      await Promise.all(Array.from({ length: 10 }, () => shop.pool.query('SELECT pg_sleep(0.02)').catch(() => undefined)))
    },
    () => mend(random.pick(POISONS)),
    // What was mended breaks again: what was applied by then is refused by a replay.
    () => void mended.delete(random.pick(['JS', 'INVALID'])),
    retry,
    replay,
    async () => {
      await Promise.all([synchronize(), replay(), retry()])
    },
    async () => {
      await Promise.all([synchronize(), retry()])
    },
    async () => {
      const [held] = await shop.central.quarantine.list({ limit: 1 })
      await (held &&
        random
          .pick(centrals)
          .quarantine.discard(held.id, { reason: 'nonsense' })
          .catch(() => undefined))
    },
  ]
  /** Receipts that were applied while the mapping took what it does not take again. */
  const unmapped = async () => (mended.has('JS') ? [] : appliedWith(shop.pool, 'JS'))
  const mayWait = (items: readonly string[]) => items.some((name) => POISONS.includes(name as (typeof POISONS)[number]))
  for (let n = 0; n < 60; n++) {
    await random.pick(steps)()
    if (n % 20 === 19) {
      await synchronize()
      if (!(await holds(t, shop.pool, mayWait, `after ${n + 1} steps`))) return false
      if (!(await proves(t, shop.central, await unmapped(), `after ${n + 1} steps`))) return false
    }
  }
  for (const poison of POISONS) await mend(poison)
  await synchronize()
  await shop.central.quarantine.retry({})
  t.same(await shop.central.quarantine.list(), [], 'when all is mended nothing waits')
  t.match(await shop.central.replay({ table: 'receipts' }), { postings: 0, quarantined: 0, refused: 0 }, 'and there is nothing left to do')
  const good = await holds(t, shop.pool, () => false, 'at the end')
  const { rows } = await shop.pool.query(
    'SELECT record_id, table_name, incarnation FROM sync_postings GROUP BY 1, 2, 3, ledger, revision HAVING count(*) > 1',
  )
  t.same(rows, [])
  for (const central of centrals) await central.stop()
  return good
}

t.test(
  'whatever is bad, mended, retried, replayed, discarded, removed and cut, posted is the version that was applied last',
  { timeout: TIMEOUT_MS },
  async (t) => {
    for (const n of roundsOfRun(2)) {
      const own = seed + n
      t.comment(`round ${n}: --seed=${own}`)
      if (!(await round(t, new Random(own)))) return
    }
  },
)
