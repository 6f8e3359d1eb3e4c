import { query, type Statement, type Work } from '../work.ts'

/** Rows of a statement page by page, however many there are; only one of a name at a time in a transaction. */
export class Cursor<R> {
  private readonly name: string
  private readonly page: number

  constructor(name: string, page: number) {
    this.name = name
    this.page = page
  }

  *open({ sql, parameters }: Statement): Work<void> {
    // All of them are wanted, not the first ones soon.
    yield* query({ sql: 'SET LOCAL cursor_tuple_fraction = 1', parameters: [] })
    yield* query({ sql: `DECLARE ${this.name} NO SCROLL CURSOR FOR ${sql}`, parameters })
  }

  /** The next page; none at the end. */
  next(): Work<readonly R[]> {
    return query<R>({ sql: `FETCH ${this.page} FROM ${this.name}`, parameters: [] })
  }

  *close(): Work<void> {
    yield* query({ sql: `CLOSE ${this.name}`, parameters: [] })
  }
}
