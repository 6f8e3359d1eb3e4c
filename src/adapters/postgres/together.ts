import type { PoolClient } from 'pg'

/** A statement as it is sent. */
export interface Sent {
  readonly text: string
  /** Under which name it is prepared, where its plan is kept. */
  readonly name?: string
  readonly values?: readonly unknown[]
  readonly types: { getTypeParser(oid: number): (value: string) => unknown }
  /** Rows as tuples. */
  readonly rowMode?: 'array'
}

/** A row of an answer, by the names of its columns or as a tuple. */
type Row = object

/**
 * Sends statements of one transaction in one way to the server; answered with the rows of each. The first that fails ends it: what comes behind it is not run.
 * The extended protocol has this (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-PIPELINING). They go one after another with a client that
 * can't be told so, and with one that pipelines by itself: it sends what comes behind a statement that it could not write.
 */
export async function sendTogether(client: PoolClient, statements: readonly Sent[]): Promise<readonly (readonly Row[])[]> {
  const Query = isPipelined(client) ? undefined : queryClassOf(client)
  if (statements.length > 1 && Query !== undefined) {
    return new Promise((resolve, reject) => void client.query(new Together(Query, statements, resolve, reject)))
  }
  const answers: (readonly Row[])[] = []
  for (const { values = [], ...statement } of statements) answers.push((await client.query({ ...statement, values: values as unknown[] })).rows)
  return answers
}

/** Where statements are sent without waiting for answers (`pipeline` of the pool), `pg` refuses COPY and whatever else speaks the protocol by itself. */
export function isPipelined(client: PoolClient): boolean {
  return (client as { readonly pipeline?: boolean }).pipeline === true
}

/** What `pg` passes on to the query whose turn it is. */
interface PgQuery {
  readonly name?: string
  submit(connection: PgConnection): Error | null
  handleRowDescription(message: unknown): void
  handleDataRow(message: unknown): void
  handleCommandComplete(message: unknown, connection: PgConnection): void
  handleReadyForQuery(connection: PgConnection): void
}

type PgQueryClass = new (config: object, values: undefined, callback: (error: unknown, result: unknown) => void) => PgQuery

/** The messages of the protocol, as `pg`'s own queries and its cursors write them. */
interface PgConnection {
  readonly stream: { cork?(): void; uncork?(): void }
  sync(): void
  /** By name, until the server has answered. */
  readonly submittedNamedStatements?: Record<string, string>
}

/** `pg`'s own, by which parameters and rows are written and read as by any other statement. Its native client has another one. */
function queryClassOf(client: PoolClient): PgQueryClass | undefined {
  const { Query } = client.constructor as { readonly Query?: PgQueryClass }
  return Query !== undefined && typeof Query.prototype.handleDataRow === 'function' && typeof Query.prototype.submit === 'function'
    ? Query
    : undefined
}

/** Queries that share one Sync: to `pg` they are one. */
class Together {
  readonly statements: readonly Sent[]
  private readonly queries: readonly PgQuery[]
  /** Which one the server is answering. */
  private at = 0
  /** Why the next one could not be written. */
  private failure: unknown
  private readonly answers: (readonly Row[])[] = []

  constructor(
    Query: PgQueryClass,
    statements: readonly Sent[],
    resolve: (answers: readonly (readonly Row[])[]) => void,
    reject: (error: unknown) => void,
  ) {
    this.statements = statements
    const named = new Set<string | undefined>()
    this.queries = statements.map(({ name, values = [], ...statement }) => {
      // The server has prepared none of them when the last one is written. By itself a statement is prepared under another name: a tracer may have put a comment into its text.
      const own = name === undefined || named.has(name) ? undefined : { name: `${name}_together` }
      named.add(name)
      return new Query({ ...statement, ...own, values, queryMode: 'extended' }, undefined, (error, result) => {
        if (error) this.failure ??= error
        else this.answers.push((result as { readonly rows: readonly Row[] }).rows)
      })
    })
    Object.defineProperty(this, 'text', { get: () => this.statements[this.at]?.text ?? '', configurable: false })
    this.callback = (error) => {
      if (error) reject(error)
      else if (this.answers.length === statements.length) resolve(this.answers)
      else reject(new Error('Another query was sent in place of statements that go together'))
    }
  }

  /** What `pg` notes of a name. Where it could, a tracer would put the first text in its place, and the names would be known by that. */
  declare readonly text: string

  /** Of `pg`, which wraps it where queries have a time limit. */
  callback: (error: unknown) => void

  /** Under it `pg` notes that the server has prepared the statement. Never undefined: a tracer would send a copy with a comment instead, which is no query any more. */
  get name(): string {
    return this.queries[this.at]?.name ?? ''
  }

  submit(connection: PgConnection): void {
    const part: PgConnection = Object.create(connection, { sync: { value: () => undefined } })
    connection.stream.cork?.()
    try {
      for (const query of this.queries) {
        const refused = query.submit(part)
        this.failure ??= refused ?? undefined
        if (this.failure !== undefined) break
      }
    } finally {
      connection.sync()
      connection.stream.uncork?.()
    }
  }

  handleRowDescription(message: unknown): void {
    this.queries[this.at]?.handleRowDescription(message)
  }

  handleDataRow(message: unknown): void {
    this.queries[this.at]?.handleDataRow(message)
  }

  handleCommandComplete(message: unknown, connection: PgConnection): void {
    const query = this.queries[this.at++]
    query?.handleCommandComplete(message, connection)
    query?.handleReadyForQuery(connection)
  }

  handleEmptyQuery(): void {
    this.at++
    this.answers.push([])
  }

  /** Behind it the server passes over all up to the Sync: those are not prepared. */
  handleError(error: unknown, connection?: PgConnection): void {
    for (const { name } of this.queries.slice(this.at)) if (name !== undefined) delete connection?.submittedNamedStatements?.[name]
    this.callback(error)
  }

  handleReadyForQuery(): void {
    this.callback(this.failure)
  }
}
