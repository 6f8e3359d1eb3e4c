import type { CapturingDatabase } from '../../../src/ports.ts'

/** A till's database, and how it is kept and put back. */
export interface Host {
  /** As the library opens it. */
  database(): CapturingDatabase
  /** One transaction of the POS application. */
  run(statements: readonly string[]): Promise<void>
  query<Row>(sql: string): Promise<readonly Row[]>
  backup(): Promise<unknown>
  /** Nobody has it open meanwhile. */
  restore(backup: unknown): Promise<void>
  /** A copy of the disk. */
  clone(): Promise<Host>
  close(): Promise<void>
}

/** Makes tills' databases, empty ones with the library's tables, quickly. */
export interface Hosts {
  open(): Promise<Host>
}
