import pg from 'pg'

/** Head office's database, asked in plain SQL: the library has no part in the answers. */
export class Books {
  private client: pg.Client | undefined

  async open(connectionString: string): Promise<void> {
    this.client = new pg.Client({ connectionString })
    this.client.on('error', () => undefined)
    await this.client.connect()
  }

  async close(): Promise<void> {
    await this.client?.end()
  }

  /** All values as text. */
  async rows(query: string, ...values: readonly string[]): Promise<readonly Readonly<Record<string, string | null>>[]> {
    if (this.client === undefined) throw new Error('Head office is not open')
    return (await this.client.query<Record<string, string | null>>(query, [...values])).rows
  }

  async count(query: string, ...values: readonly string[]): Promise<number> {
    const [row = {}] = await this.rows(query, ...values)
    return Number(Object.values(row)[0])
  }
}
