import type { AnyTables, RegisterOptions } from '../../../src/index.ts'
import type { EntryRow } from './groups.ts'
import type { Reader } from './standing.ts'

/** A host's database with a twin without the library: what a case is played on. */
export interface Stage {
  /** Plain queries of the twin, by a connection of their own. */
  readonly twin: Reader
  /** A number that is another one after a change of the schema. */
  readonly schemaVersion: unknown
  /** Nothing of the host's is open. */
  readonly isBetweenTransactions: boolean
  isInTransaction(on: number): boolean
  /**
   * Runs a statement on both, which must come to the same. Returns the error's code, or undefined.
   *
   * @throws Break
   */
  run(on: number, sql: string): Promise<string | undefined>
  /** Whatever is open is committed, or else rolled back. */
  settle(): Promise<void>
  /** The host's tables and their schema are the same in both. */
  compare(): Promise<void>
  /** The library's database, opened anew as after a restart. */
  database(): RegisterOptions<AnyTables>['database']
  entries(after: number): Promise<readonly EntryRow[]>
  /** Others have their turn, as long as these are not done. */
  turn(background: readonly Promise<unknown>[]): Promise<void>
  /** The library may have worked on the host's connection. */
  afterLibrary(): void
  /** Ends what the host has open, so that the library can come to its end. */
  abandon(): Promise<void>
  close(): Promise<void>
}
