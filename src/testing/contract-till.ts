import { copyFileSync, rmSync } from 'node:fs'
import type { RegisterName } from '../model.ts'
import type { CapturingDatabase, Link } from '../ports.ts'
import { createRegister } from '../register.ts'
import type { Register } from '../register-face.ts'
import type { PushTransfer } from '../transfer-options.ts'
import { encodeMessage } from '../transport/codec.ts'
import { query } from '../work.ts'
import { Carrier } from './carrier.ts'
import { Door } from './door.ts'
import type { LinkContractOptions } from './link-options.ts'

const SCHEMA = [
  'CREATE TABLE receipts (id INTEGER PRIMARY KEY, receipt_no TEXT NOT NULL, note TEXT)',
  'CREATE TABLE receipt_lines (id INTEGER PRIMARY KEY, receipt_id INTEGER NOT NULL, item_no TEXT NOT NULL, quantity TEXT NOT NULL)',
  'CREATE INDEX receipt_lines_receipt_id ON receipt_lines (receipt_id)',
]

export interface Sold {
  readonly receiptNo: string
  readonly quantity: number
  readonly note: string | null
}

export interface TillParts {
  readonly name: RegisterName
  readonly file: string
  readonly token: string
  readonly isPulled: boolean
  readonly tillDatabase: LinkContractOptions['tillDatabase']
  /** What it pushes by, where that is no link. */
  readonly transfer?: () => PushTransfer
}

/** A till of the suite: an SQLite file with a POS application that sells, and its register behind the link under test. */
export class ContractTill {
  readonly name: RegisterName
  readonly carrier = new Carrier()
  /** All that was ever sold, also what a restore has taken back. */
  readonly sold: Sold[] = []
  /** The link under test, without the carrier. */
  link!: Link
  token: string
  register!: Register
  private readonly parts: TillParts
  private pos!: CapturingDatabase

  constructor(parts: TillParts) {
    this.parts = parts
    this.name = parts.name
    this.token = parts.token
  }

  /** What answers central, where it pulls: always the latest register. */
  readonly door = new Door(() => this.register)

  async open(): Promise<void> {
    this.openDatabase()
    await this.pos.open()
    for (const sql of SCHEMA) await this.pos.write(() => query({ sql, parameters: [] }))
    this.createRegister()
    await this.register.install()
    if (this.parts.isPulled) await this.register.start()
  }

  async sell(receipts: number, note: string | null = null): Promise<void> {
    for (let n = 0; n < receipts; n++) {
      const sold = { receiptNo: `R-${this.sold.length + 1}`, quantity: 1 + (this.sold.length % 7), note }
      await this.pos.write(function* () {
        const [row] = yield* query<{ id: number }>({
          sql: 'INSERT INTO receipts (receipt_no, note) VALUES (?, ?) RETURNING id',
          parameters: [sold.receiptNo, note],
        })
        const line = 'INSERT INTO receipt_lines (receipt_id, item_no, quantity) VALUES (?, ?, ?)'
        yield* query({ sql: line, parameters: [row?.id, '4006381333931', '1'] })
        if (sold.quantity > 1) yield* query({ sql: line, parameters: [row?.id, '4006381333948', `${sold.quantity - 1}`] })
      })
      this.sold.push(sold)
    }
  }

  /** The receipts that stand there. */
  async receipts(): Promise<readonly string[]> {
    const rows = await this.pos.read(() => query<{ receipt_no: string }>({ sql: 'SELECT receipt_no FROM receipts ORDER BY 1', parameters: [] }))
    return rows.map((row) => row.receipt_no)
  }

  /** A copy of the database, to be restored. */
  async backup(): Promise<string> {
    await this.close()
    const copy = `${this.parts.file}.backup`
    copyFileSync(this.parts.file, copy)
    await this.reopen()
    return copy
  }

  async restore(copy: string): Promise<void> {
    await this.close()
    for (const rest of ['-wal', '-shm']) rmSync(`${this.parts.file}${rest}`, { force: true })
    copyFileSync(copy, this.parts.file)
    await this.reopen()
  }

  /** A message that says nothing but who it is from, or whom it is for. */
  hello(id: string, name: RegisterName = this.name): Promise<Uint8Array> {
    return encodeMessage(this.parts.isPulled ? { from: 'central', to: name, id } : { from: name, id, publish: { epoch: 'contract', head: 0 } })
  }

  async close(): Promise<void> {
    await this.register.stop()
    await this.pos.close()
  }

  private async reopen(): Promise<void> {
    this.openDatabase()
    await this.pos.open()
    this.createRegister()
    if (this.parts.isPulled) await this.register.start()
  }

  private openDatabase(): void {
    this.pos = this.parts.tillDatabase(this.parts.file)
  }

  private createRegister(): void {
    const till = this
    const link: Link = {
      get waitMs() {
        return till.link.waitMs
      },
      exchange: (message, options) => this.carrier.exchange(this.link, message, options),
    }
    this.register = createRegister({
      ...this.name,
      database: this.parts.tillDatabase(this.parts.file),
      publish: { receipts: { identity: ['receipt_no'] }, receipt_lines: { partOf: { receipts: { receipt_id: 'id' } } } },
      retainMs: 0,
      transfer: this.parts.transfer
        ? this.parts.transfer()
        : this.parts.isPulled
          ? { type: 'pull', token: this.token, recordsPerRun: RECORDS_PER_RUN }
          : { type: 'push', link, recordsPerRun: RECORDS_PER_RUN, everyMs: 100, backoff: { minMs: 5, maxMs: 50 } },
    })
  }
}

/** Few, so that a handful of receipts is a run of exchanges. */
export const RECORDS_PER_RUN = 12
