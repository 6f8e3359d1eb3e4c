import type { Random } from '../random.ts'
import type { Machine } from './machine.ts'
import type { Sale } from './sale.ts'

const ITEMS = ['A', 'B', 'C']

/** What a POS application does at a machine, in transactions of its own. Keys are the next ones free, so that those at the end are used again after a delete. */
export class Cashier {
  private readonly machine: Machine
  private readonly random: Random
  /** A name for a sale that no other ever had. */
  private readonly nextName: () => string

  constructor(machine: Machine, random: Random, nextName: () => string) {
    this.machine = machine
    this.random = random
    this.nextName = nextName
  }

  async sell(): Promise<void> {
    await this.machine.host.run(await this.sale())
  }

  /** So many lines that no message of a little size holds them. */
  async sellLarge(): Promise<void> {
    await this.machine.host.run(await this.sale(this.random.int(8, 40)))
  }

  async change(): Promise<void> {
    const sale = await this.any()
    if (sale === undefined) return
    const [line] = sale.lines
    const kind = this.random.int(0, 3)
    if (kind === 0)
      return this.machine.host.run([`UPDATE receipts SET status = '${this.random.pick(['posted', 'corrected'])}' WHERE id = ${sale.id}`])
    if (kind === 1 || line === undefined) return this.machine.host.run([await this.line(sale.id, 0)])
    if (kind === 2) return this.machine.host.run([`DELETE FROM receipt_lines WHERE id = ${line.id}`])
    return this.machine.host.run([`UPDATE receipt_lines SET quantity = ${this.random.int(1, 50)} WHERE id = ${line.id}`])
  }

  async void(): Promise<void> {
    const sale = await this.any()
    if (sale) await this.machine.host.run([`UPDATE receipts SET status = 'voided' WHERE id = ${sale.id}`])
  }

  async delete(): Promise<void> {
    const sale = await this.any()
    if (sale) await this.machine.host.run(deletion(sale))
  }

  /** The last sale goes and another takes its key: in one transaction or two. */
  async reuse(): Promise<void> {
    const last = (await this.machine.sales()).at(-1)
    if (last === undefined) return
    if (this.random.chance(0.5)) await this.machine.host.run(deletion(last))
    const lastLine = Math.max(0, ...(await this.machine.sales()).flatMap(({ id, lines }) => (id === last.id ? [] : lines.map((line) => line.id))))
    await this.machine.host.run([...deletion(last), ...this.insertion(last.id, lastLine)])
  }

  /** A sale that was lost is entered once more, alike, where its keys are free. */
  async enterAgain(known: readonly Sale[]): Promise<void> {
    const there = await this.machine.sales()
    const lost = known.filter(
      ({ id, customer_no, lines }) =>
        there.every((sale) => sale.id !== id && sale.customer_no !== customer_no) &&
        lines.every((line) => there.every((sale) => sale.lines.every((other) => other.id !== line.id))),
    )
    if (lost.length > 0) await this.machine.host.run(insertionOf(this.random.pick(lost)))
  }

  private async any(): Promise<Sale | undefined> {
    const sales = await this.machine.sales()
    return sales.length === 0 ? undefined : this.random.pick(sales)
  }

  private async sale(lines?: number): Promise<string[]> {
    const sales = await this.machine.sales()
    const lastLine = Math.max(0, ...sales.flatMap(({ lines }) => lines.map(({ id }) => id)))
    return this.insertion((sales.at(-1)?.id ?? 0) + 1, lastLine, lines)
  }

  private insertion(id: number, lastLine: number, length = this.random.int(0, 3)): string[] {
    const lines = Array.from({ length }, (_, n) => ({
      id: lastLine + n + 1,
      receipt_id: id,
      item_no: this.random.pick(ITEMS),
      quantity: this.random.int(1, 50),
    }))
    const status = this.random.chance(0.1) ? 'open' : 'posted'
    return insertionOf({ id, receipt_no: `R-${id}`, customer_no: this.nextName(), status, lines })
  }

  private async line(receipt: number, after: number): Promise<string> {
    const sales = await this.machine.sales()
    const last = Math.max(after, ...sales.flatMap(({ lines }) => lines.map(({ id }) => id)))
    return lineOf({ id: last + 1, receipt_id: receipt, item_no: this.random.pick(ITEMS), quantity: this.random.int(1, 50) })
  }
}

function insertionOf({ id, receipt_no, customer_no, status, lines }: Sale): string[] {
  return [
    `INSERT INTO receipts (id, receipt_no, customer_no, status) VALUES (${id}, '${receipt_no}', '${customer_no}', '${status}')`,
    ...lines.map(lineOf),
  ]
}

function lineOf({ id, receipt_id, item_no, quantity }: Sale['lines'][number]): string {
  return `INSERT INTO receipt_lines (id, receipt_id, item_no, quantity) VALUES (${id}, ${receipt_id}, '${item_no}', ${quantity})`
}

function deletion({ id }: Sale): string[] {
  return [`DELETE FROM receipt_lines WHERE receipt_id = ${id}`, `DELETE FROM receipts WHERE id = ${id}`]
}
