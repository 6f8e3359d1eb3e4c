import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import pg from 'pg'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import {
  type AuditedRegister,
  type AuditFinding,
  balanced,
  type Central,
  type CentralMailbox,
  createCentral,
  mirror,
  negate,
  pluClosings,
  type Reconciliation,
  stockMovements,
} from '../../src/index.ts'
import { centralFileMailbox } from '../../src/transport/file.ts'
import { toNodeHandler } from '../../src/transport/http.ts'
import { centralNatsMailbox } from '../../src/transport/nats.ts'
import { startPostgres } from '../support/postgres.ts'
import type { Audited, FileWay, FromCentral, NatsWay, NewTill, ToCentral } from './messages.ts'
import { CENTRAL_SCHEMA, type HeadOfficeTables, type TillTables } from './tables.ts'

// Head office: one process with a real PostgreSQL, and tillsync behind a node:http server.

process.on('SIGINT', () => undefined) // a Ctrl-C is for the director, who ends us
process.on('disconnect', () => process.exit())
process.once('message', (start: ToCentral) => {
  if (start.type !== 'start') return
  const started = run(start.folder, start.registers, start.hub)
  process.on('message', async (message: ToCentral) => {
    const { central, stop } = await started
    if (message.type === 'audit') say(await audit(central, message))
    if (message.type !== 'stop') return
    await stop()
    process.exit()
  })
})

type DemoCentral = Central<TillTables, HeadOfficeTables>

interface HeadOffice {
  readonly central: DemoCentral
  stop(): Promise<void>
}

async function run(folder: string, registers: readonly NewTill[], hub: NatsWay | FileWay | undefined): Promise<HeadOffice> {
  const server = await startPostgres({ folder: join(folder, 'head-office') })
  const { config, connectionString } = await server.createDatabase('head_office')
  const pool = new pg.Pool({ ...config, max: 8 })
  pool.on('error', () => undefined)
  await pool.query(CENTRAL_SCHEMA)

  const central = createHeadOffice(pool, hub)
  await central.install()
  central.on('applied', ({ register, entries }) => say({ type: 'applied', register: register.register, entries }))
  central.on('refused', ({ error }) => say({ type: 'refused', why: `${error.code}: ${error.message}` }))
  central.on('quarantined', ({ register, documents }) => {
    for (const { code } of documents) say({ type: 'quarantined', register: register.register, code })
  })
  const tokens: Record<string, string> = {}
  for (const { location, register, priceGroup } of registers)
    tokens[register] = (await central.registers.add({ location, register, attributes: { priceGroup } })).token

  const http = createServer(toNodeHandler(central.fetch)).listen(0, '127.0.0.1')
  await once(http, 'listening')
  await central.start()
  say({ type: 'ready', port: (http.address() as AddressInfo).port, connectionString, tokens })

  const stop = async () => {
    http.close()
    http.closeAllConnections()
    await central.stop()
    await pool.end()
    await server.stop()
  }
  return { central, stop }
}

/** What the library itself says of all that it has taken. */
async function audit(central: DemoCentral, { locations, days }: ToCentral & { readonly type: 'audit' }): Promise<Audited> {
  const registers: AuditedRegister[] = []
  const reconciled: Reconciliation[] = []
  for (const location of locations) {
    registers.push(...(await central.audit({ location })).registers)
    for (const businessDate of days) reconciled.push(await central.reconcile({ location, businessDate }))
  }
  return {
    type: 'audited',
    findings: registers.flatMap(({ register, findings }) => findings.map((finding) => `${register} ${nameOf(finding)}`)),
    archived: registers.flatMap(({ epochs }) => epochs).reduce((total, { archived }) => total + archived, 0),
    differences: reconciled.flatMap(({ differences }) => differences.map(({ register, table, why }) => `${register} ${table} ${why}`)),
    closed: reconciled.flatMap(({ items }) => items.map(({ closings }) => closings.netAmount)),
  }
}

function nameOf(finding: AuditFinding): string {
  return finding.code === 'NUMBERS_MISSING'
    ? `${finding.code} ${finding.by.series} ${finding.from}${finding.through === finding.from ? '' : `–${finding.through}`}`
    : finding.code
}

/** Where tills leave their letters. */
function mailboxAt(hub: NatsWay | FileWay): CentralMailbox {
  if (hub.type === 'file') return centralFileMailbox({ folder: hub.folder, keys: ({ register }) => hub.keys[register], lookMs: 100 })
  return centralNatsMailbox({ servers: hub.servers, credentials: hub.credentials })
}

/** All that head office does with what the tills send, and what they get. */
function createHeadOffice(pool: pg.Pool, hub: NatsWay | FileWay | undefined): DemoCentral {
  return createCentral<HeadOfficeTables, TillTables>({
    database: postgres(pool),
    ...(hub && { mailboxes: [mailboxAt(hub)] }),
    publish: {
      items: {
        where: (eb, { location }) => eb('item_no', 'in', eb.selectFrom('assortments').select('assortments.item_no').where('location', '=', location)),
        dependsOn: { assortments: { item_no: 'item_no' } },
      },
      price_lists: { where: (eb, { attributes }) => eb('price_group', '=', String(attributes.priceGroup)) },
      price_list_lines: { partOf: { price_lists: { list_id: 'list_id' } } },
      internal_orders: { only: ['status', 'confirmed_at'], origin: ['location', 'register'] },
      internal_order_lines: {
        partOf: { internal_orders: { location: 'location', register: 'register', order_id: 'id' } },
        only: ['confirmed_quantity'],
      },
    },
    validate: {
      receipts: balanced({
        header: 'gross_amount',
        lines: { receipt_lines: 'gross_amount' },
        vat: { receipt_lines: ['net_amount', 'vat_amount'] },
        tenders: { tender_lines: 'amount' },
      }),
    },
    numbering: { receipts: { column: 'number', by: ['series'], first: 1 } },
    subscribe: {
      internal_orders: mirror({ except: ['status', 'confirmed_at'], origin: ['location', 'register'], removals: 'apply' }),
      internal_order_lines: mirror({ except: ['confirmed_quantity'] }),
      receipts: [
        mirror({ origin: ['location', 'register'] }),
        stockMovements((receipt, { location }) =>
          receipt.parts.receipt_lines.map((line) => ({
            item: line.item_no,
            location,
            businessDate: receipt.business_date,
            document: receipt.receipt_no,
            customer: receipt.customer_no,
            line: line.line_no,
            quantity: negate(line.quantity),
            amount: line.net_amount,
          })),
        ),
      ],
      plu_closings: pluClosings({
        closing: (closing, { location }) => ({
          location,
          businessDate: closing.business_date,
          document: closing.closing_no,
          ranges: closing.parts.plu_closing_ranges.map(({ series, first_no, last_no }) => ({ series, from: first_no, through: last_no })),
        }),
        receipts: {
          table: 'receipts',
          number: 'number',
          series: 'series',
          date: 'business_date',
          lines: (receipt) =>
            receipt.parts.receipt_lines.map((line) => ({
              item: line.item_no,
              vatRate: line.vat_rate,
              customer: receipt.customer_no,
              quantity: line.quantity,
              netAmount: line.net_amount,
              vatAmount: line.vat_amount,
            })),
        },
      }),
    },
  })
}

function say(message: FromCentral): void {
  if (process.connected) process.send?.(message)
}
