import type { Pool, PoolClient } from 'pg'

/** Where somebody comes in between: before a transaction that only reads begins, or when a statement of it is answered and whoever asked does not know yet. */
export type Between = 'begin' | 'answer'

/** Statements that would go together go one after another, so that each can be met. */
export function oneByOne(client: PoolClient): void {
  Object.assign(client, { constructor: {} })
}

/** Has `work` done in the midst of the transactions that the library reads in by this pool, which must not have connected yet. */
export function interpose(pool: Pool, work: (between: Between) => Promise<unknown> | undefined): void {
  pool.on('connect', (client: PoolClient) => {
    oneByOne(client)
    const { query } = client
    let isReading = false
    Object.assign(client, {
      query(...all: unknown[]) {
        const [first] = all as [string | { readonly text?: string }]
        const text = (typeof first === 'string' ? first : first.text) ?? ''
        const run = () => Reflect.apply(query, client, all)
        if (/^BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY$/.test(text)) {
          isReading = true
          return work('begin')?.then(run) ?? run()
        }
        if (/^(COMMIT|ROLLBACK)$/.test(text)) isReading = false
        return isReading ? run().then((answer: unknown) => work('answer')?.then(() => answer) ?? answer) : run()
      },
    })
  })
}
