import type { Pool, PoolClient } from 'pg'

/** Where somebody comes in between: before a transaction that only reads begins, or when a statement of it is answered and whoever asked does not know yet. */
export type Between = 'begin' | 'answer'

/** Has `work` done in the midst of the transactions that the library reads in by this pool, which must not have connected yet. */
export function interpose(pool: Pool, work: (between: Between) => Promise<unknown> | undefined): void {
  pool.on('connect', (client: PoolClient) => {
    const { query } = client
    let isReading = false
    Object.assign(client, {
      query(...all: unknown[]) {
        const [first] = all as [string | { readonly text?: string }]
        const text = (typeof first === 'string' ? first : first.text) ?? ''
        const run = () => Reflect.apply(query, client, all)
        if (/^BEGIN .* READ ONLY; SET LOCAL/.test(text)) {
          isReading = true
          return work('begin')?.then(run) ?? run()
        }
        if (/^(COMMIT|ROLLBACK)$/.test(text)) isReading = false
        return isReading ? run().then((answer: unknown) => work('answer')?.then(() => answer) ?? answer) : run()
      },
    })
  })
}
