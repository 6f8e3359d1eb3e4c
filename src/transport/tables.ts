import type { OwnTable } from '../ports.ts'

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
