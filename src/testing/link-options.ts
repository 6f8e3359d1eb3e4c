import { TillsyncError } from '../errors.ts'
import type { RegisterName } from '../model.ts'
import { known, unlessGiven, whole } from '../options.ts'
import type { CapturingDatabase, CentralDatabase, Link } from '../ports.ts'
import type { RequestSource } from '../transport/source.ts'

/**
 * The host's test function: `test` of node:test, `t.test` of tap, `test` of vitest. A contract calls it once for each of its promises, at once; what
 * its functions reject with is what is broken.
 */
export type ContractTest = (name: string, run: () => Promise<void>) => unknown

/** What answers the exchanges that a link carries: central, or a register that is pulled. */
export interface Answering {
  readonly fetch: (request: Request, from?: RequestSource) => Promise<Response>
}

/** A link under test, and how it is ended. */
export interface ContractLink extends Link {
  /** Closes what was opened for it: servers, connections. */
  close?(): Promise<void> | void
}

/** Where a register that is pulled is served. */
export interface ContractServer {
  readonly url: string
  /** What central reaches it by. Default: Node's. */
  readonly fetch?: typeof globalThis.fetch
  close?(): Promise<void> | void
}

export interface LinkContractOptions {
  /**
   * Head office's database, as `postgres(pool)` gives it; asked for each central of the suite. One of its own: the suite makes its tables in it
   * (`receipts`, `receipt_lines` and the library's). The host ends the pool, and drops the database, after the last test.
   */
  readonly database: () => CentralDatabase
  /** An SQLite till in this file, which the suite removes in the end; in WAL mode: `sqlite(() => openWal(file))`. */
  readonly tillDatabase: (file: string) => CapturingDatabase
  /**
   * How long the link waits for an answer before it gives up, in milliseconds: as the suite is to find it. From 100 up; a short one (2,000) keeps the
   * suite short.
   */
  readonly timeoutMs: number
  /** Makes the link of a register that pushes, from what answers it, who it is and its token. Either this or `serve`. */
  readonly link?: (central: Answering, register: RegisterName, token: string) => ContractLink | Promise<ContractLink>
  /** Serves a register that is pulled. The suite's central pulls it there. */
  readonly serve?: (till: Answering, register: RegisterName) => ContractServer | Promise<ContractServer>
  /** How long what should go well may take, in milliseconds. Default 15,000; from 100 up. */
  readonly withinMs?: number
  /** What the dice say. Default: at random; a failure names it. */
  readonly seed?: number
}

export type CheckedOptions = LinkContractOptions & { readonly withinMs: number; readonly seed: number }

/** @throws ERR_OPTION */
export function checkOptions(test: ContractTest, options: LinkContractOptions): CheckedOptions {
  if (typeof test !== 'function') throw misused('the test function of the host', test)
  if (typeof options !== 'object' || options === null) throw misused('options', options)
  known('linkContract', options, ['database', 'tillDatabase', 'timeoutMs', 'link', 'serve', 'withinMs', 'seed'])
  for (const name of ['database', 'tillDatabase'] as const)
    if (typeof options[name] !== 'function') throw misused(`\`${name}\`, a function`, options[name])
  const { link, serve } = options
  if ((link === undefined) === (serve === undefined)) throw misused('either `link` or `serve`', link === undefined ? undefined : 'both')
  if (typeof (link ?? serve) !== 'function') throw misused(link ? '`link`, a function' : '`serve`, a function', link ?? serve)
  return {
    ...options,
    timeoutMs: whole('timeoutMs', options.timeoutMs, 100, 600_000),
    withinMs: whole('withinMs', unlessGiven(options.withinMs, 15_000), 100, 600_000),
    seed: whole('seed', unlessGiven(options.seed, Math.floor(Math.random() * 1_000_000_000)), 0),
  }
}

function misused(expected: string, got: unknown): TillsyncError {
  return new TillsyncError('ERR_OPTION', `linkContract needs ${expected}, got ${typeof got === 'string' ? got : typeof got}`, {
    hint: 'linkContract(test, { database, tillDatabase, link, timeoutMs }); see docs/links.md.',
  })
}
