import type { OwnTable } from '../own-table.ts'

/** What this side knows of the other side of an exchange. */
export const PEERS = {
  name: 'sync_peers',
  columns: {
    peer: 'text',
    /** The standing that the peer acknowledged. */
    epoch: 'text',
    entry_no: 'integer',
    digest: 'text',
    contact_at: 'text',
  },
  primaryKey: ['peer'],
  nullable: ['epoch'],
} as const satisfies OwnTable

/** The registers that central pulls. A table of its own: what is written here waits for no batch, which locks its register's row. */
export const PULLS = {
  name: 'sync_pulls',
  columns: {
    register_id: 'integer',
    url: 'text',
    /** The process that pulls it; another one may take it over from `held_until` on. */
    holder: 'text',
    held_until: 'time',
  },
  primaryKey: ['register_id'],
  nullable: ['holder', 'held_until'],
} as const satisfies OwnTable
