import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Database from 'better-sqlite3'
import type { Pool } from 'pg'
import type { Test } from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { sqlite } from '../../src/adapters/sqlite/adapter.ts'
import { CentralReplica } from '../../src/central.ts'
import { systemClock } from '../../src/clock.ts'
import {
  type AnyDocument,
  type AnyTables,
  type Attributes,
  type AudienceRules,
  type Central,
  type Limits,
  type Link,
  type LinkTransfer,
  type MailboxTransfer,
  type MirrorRules,
  type Movement,
  mirror,
  type NumberingRules,
  negate,
  type PublishRules,
  type PullOptions,
  type PullTransfer,
  type Register,
  type RegisterName,
  type RetryOptions,
  type SubscribeRules,
  stockMovements,
  TillsyncError,
  type TillsyncErrorCode,
  type ValidateRules,
} from '../../src/index.ts'
import type { CentralMailbox, Clock } from '../../src/ports.ts'
import { RegisterReplica } from '../../src/register.ts'
import { httpLink, type NodeHandlerOptions, toNodeHandler } from '../../src/transport/http.ts'
import { archivedBooks, centralBooks, isLedgerSound, tillBooks } from './books.ts'
import { createPool, type Postgres } from './postgres.ts'
import { Cashier } from './sales.ts'
import { CENTRAL_SCHEMA, TILL_SCHEMA } from './tables.ts'

export const PUBLISH: PublishRules<AnyTables> = {
  pos_processes: {},
  receipts: {
    where: (eb) => eb('status', '<>', 'open'),
    except: ['cashier_pin'],
    relatedTo: { pos_processes: { process_id: 'id' } },
  },
  receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } },
  tender_lines: { partOf: { receipts: { receipt_id: 'id' } } },
}

/** What a receipt moves, at the location where it was sold. */
export function movementsAt(location: string): (receipt: AnyDocument) => Movement[] {
  return (receipt) =>
    receipt.status === 'voided'
      ? []
      : (receipt.parts.receipt_lines ?? []).map((line) => ({
          item: line.item_no,
          location,
          businessDate: receipt.business_date,
          document: receipt.receipt_no,
          customer: receipt.customer_no,
          quantity: negate(line.quantity),
          amount: line.net_amount,
        }))
}

export const SUBSCRIBE: SubscribeRules<AnyTables> = {
  pos_processes: mirror({ origin: ['location', 'register'] }),
  receipts: [mirror({ origin: ['location', 'register'] }), stockMovements(movementsAt('BA01'))],
}

export interface Till extends RegisterName {
  readonly file: string
  /** The POS application's own connection. */
  readonly db: Database.Database
  readonly cashier: Cashier
  readonly replica: Register
  readonly token: string
  /** Where it is pulled, where it is. */
  readonly url: string | undefined
  /** Another replica of the same till, e.g. after a restart. */
  again(options?: TillOptions): Register
  /** Synchronises, and has what waited in quarantine tried again; rejects as central would where a document of it waits. */
  deliver(): Promise<void>
}

export interface TillOptions {
  readonly location?: string
  readonly schema?: string
  readonly publish?: PublishRules<AnyTables>
  /** What it takes of what central publishes. */
  readonly subscribe?: MirrorRules<AnyTables>
  readonly attributes?: Attributes
  readonly clock?: Clock
  /** What stands between the register and the HTTP link. */
  readonly link?: (inner: Link) => Link
  readonly transfer?: Partial<Omit<LinkTransfer, 'type' | 'mailbox'>>
  /** A mailbox instead of the link. */
  readonly mailed?: Omit<MailboxTransfer, 'type' | 'link'> | undefined
  /** Central starts the exchanges: the till is served on a socket of its own, always by the latest replica that is pulled. */
  readonly pull?: boolean | Partial<PullTransfer>
  /** Another one than the register was given when it was added. */
  readonly token?: string | (() => string | Promise<string>)
  /** As whom it speaks, where not as itself. */
  readonly as?: string
  readonly retainMs?: number
  readonly forgetAfterMs?: number
}

export interface Shop {
  readonly pool: Pool
  readonly central: Central
  readonly url: string
  /** Another process of the same head office. */
  again(pull?: Partial<PullOptions>): Central
  addTill(register?: string, options?: TillOptions): Promise<Till>
  /** Sold = archived = mirrored = moved, nothing twice. */
  balances(t: Test, till: Till, message?: string): Promise<void>
  /** Posted so far of an item, at all locations. */
  stock(item: string): Promise<number>
}

export interface ShopOptions {
  /** A database that has its tables already. Default: a new one, with `schema`. */
  readonly pool?: Pool
  readonly schema?: string
  readonly subscribe?: SubscribeRules<AnyTables>
  /** What the registers get. */
  readonly publish?: AudienceRules<AnyTables>
  readonly maxMessageBytes?: number
  readonly maxDocumentBytes?: number
  /** Default: the system's. */
  readonly clock?: Clock
  readonly limits?: Limits
  readonly longPollMs?: number
  readonly retainArchiveMs?: number
  readonly handlerTimeoutMs?: number
  readonly filterTimeoutMs?: number
  readonly validate?: ValidateRules<AnyTables>
  readonly numbering?: NumberingRules<AnyTables>
  readonly retry?: RetryOptions
  readonly lanes?: number
  /** Where registers leave letters. */
  readonly mailboxes?: readonly CentralMailbox[]
  /** How registers are pulled. Default: with the token that each was added with, every 20 ms. */
  readonly pull?: Partial<PullOptions>
  /** Default: as `toNodeHandler` has it. */
  readonly source?: NodeHandlerOptions['source']
}

/** A head office on a database of its own, reached over a real socket; it ends with the test. */
export async function openShop(t: Test, server: Postgres, options: ShopOptions = {}): Promise<Shop> {
  const pool = options.pool ?? (await createPool(t, server))
  if (options.pool === undefined) await pool.query(options.schema ?? CENTRAL_SCHEMA)
  const {
    maxMessageBytes,
    maxDocumentBytes,
    limits,
    longPollMs,
    clock = systemClock,
    retainArchiveMs,
    handlerTimeoutMs,
    filterTimeoutMs,
    validate,
    numbering,
    retry,
    lanes,
  } = options
  /** Each known when its till is ready: central, once started, knows of it before. */
  const tokens = new Map<string, Promise<string>>()
  const again = (pull: Partial<PullOptions> = {}): CentralReplica => {
    const replica = new CentralReplica(
      {
        database: postgres(pool),
        subscribe: options.subscribe ?? SUBSCRIBE,
        ...(options.publish && { publish: options.publish }),
        ...(maxMessageBytes !== undefined && { maxMessageBytes }),
        ...(maxDocumentBytes !== undefined && { maxDocumentBytes }),
        ...(limits && { limits }),
        ...(longPollMs !== undefined && { longPollMs }),
        ...(retainArchiveMs !== undefined && { retainArchiveMs }),
        ...(handlerTimeoutMs !== undefined && { handlerTimeoutMs }),
        ...(filterTimeoutMs !== undefined && { filterTimeoutMs }),
        ...(validate && { validate }),
        ...(numbering && { numbering }),
        ...(retry && { retry }),
        ...(lanes !== undefined && { lanes }),
        ...(options.mailboxes && { mailboxes: options.mailboxes }),
        pull: { token: (register) => tokens.get(nameOf(register)) ?? '', everyMs: 20, ...options.pull, ...pull },
      },
      clock,
    )
    t.teardown(() => replica.stop())
    return replica
  }
  const central = again()
  await central.install()
  const url = await listen(t, central.fetch, options.source && { source: options.source })
  return {
    pool,
    central,
    url,
    again,
    async addTill(register = 'POS1', options = {}) {
      const adding = addTill(t, central, url, register, options)
      tokens.set(
        nameOf({ location: options.location ?? 'BA01', register }),
        adding.then(
          ({ token }) => token,
          () => '',
        ),
      )
      return adding
    },
    balances: (t, till, message = 'sold = archived = mirrored = moved') => balances(t, pool, till, message),
    async stock(item) {
      const { rows } = await pool.query('SELECT coalesce(sum(quantity), 0) AS quantity FROM stock_movements WHERE item_no = $1', [item])
      return Number(rows[0].quantity)
    },
  }
}

function nameOf({ location, register }: RegisterName): string {
  return `${location}/${register}`
}

/** Serves it on a socket that ends with the test. */
export async function listen(t: Test, fetch: Central['fetch'], options?: NodeHandlerOptions): Promise<string> {
  const http = createServer(toNodeHandler(fetch, options)).listen(0, '127.0.0.1')
  await once(http, 'listening')
  t.teardown(() => {
    http.close()
    http.closeAllConnections()
  })
  return `http://127.0.0.1:${(http.address() as AddressInfo).port}/sync`
}

/** An SQLite file in WAL mode with these tables, and the POS application's connection to it. */
export function openDatabase(t: Test, schema: string): { readonly file: string; readonly db: Database.Database } {
  const folder = mkdtempSync(join(tmpdir(), 'tillsync-test-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'till.sqlite')
  const db = new Database(file)
  db.pragma('journal_mode = WAL')
  db.exec(schema)
  t.teardown(() => db.close())
  return { file, db }
}

async function addTill(t: Test, central: Central, centralUrl: string, register: string, options: TillOptions): Promise<Till> {
  const { location = 'BA01' } = options
  const { file, db } = openDatabase(t, options.schema ?? TILL_SCHEMA)
  let pulled: Register | undefined
  const url = options.pull ? await listen(t, (request, from) => (pulled as Register).fetch(request, from)) : undefined
  const { token: added } = await central.registers.add({
    location,
    register,
    ...(options.attributes && { attributes: options.attributes }),
    ...(url !== undefined && { pull: { url } }),
  })
  const again = (changed: TillOptions = {}): Register => {
    const {
      publish = PUBLISH,
      subscribe,
      link = (inner: Link) => inner,
      transfer,
      mailed,
      token = added,
      as = register,
      retainMs,
      forgetAfterMs,
      pull,
      clock = systemClock,
    } = { ...options, ...changed }
    const { recordsPerRun } = transfer ?? {}
    const replica = new RegisterReplica(
      {
        location,
        register: as,
        database: sqlite(() => new Database(file)),
        publish,
        ...(subscribe && { subscribe }),
        ...(retainMs !== undefined && { retainMs }),
        ...(forgetAfterMs !== undefined && { forgetAfterMs }),
        transfer: pull
          ? { type: 'pull', token, ...(recordsPerRun !== undefined && { recordsPerRun }), ...(typeof pull === 'object' && pull) }
          : mailed
            ? { type: 'push', backoff: { minMs: 5, maxMs: 50 }, ...mailed }
            : { type: 'push', link: link(httpLink({ url: centralUrl, token })), backoff: { minMs: 5, maxMs: 50 }, ...transfer },
      },
      clock,
    )
    if (pull) pulled = replica
    t.teardown(() => replica.stop())
    return replica
  }
  const replica = again()
  await replica.install()
  const deliver = () => deliverAll(central, { location, register }, replica)
  return { location, register, file, db, cashier: new Cashier(db, location), replica, token: added, url, again, deliver }
}

async function deliverAll({ quarantine }: Central, of: RegisterName, replica: Register): Promise<void> {
  const waiting = () => quarantine.list({ ...of, state: 'waiting' })
  const before = await waiting()
  await replica.synchronize()
  const after = new Set((await waiting()).map(({ id }) => id))
  for (const { id } of before) if (after.has(id)) await quarantine.retry(id)
  const [still] = await waiting()
  if (still) throw new TillsyncError(still.code as TillsyncErrorCode, still.message, { hint: still.hint })
}

async function balances(t: Test, pool: Pool, till: Till, message: string): Promise<void> {
  const sold = tillBooks(till.db)
  const { movements: _, ...rows } = sold
  t.same(await centralBooks(pool, till), sold, message)
  t.same(await archivedBooks(pool, till), rows, `${message}: archive`)
  t.ok(await isLedgerSound(pool), `${message}: no posting twice, levels are the sum of movements`)
}
