import type { OwnTable } from '../ports.ts'

/** What this side knows of the other side of an exchange. */
export const PEERS = {
  name: 'sync_peers',
  columns: {
    peer: 'text',
    /** The number of the last message that was sent and answered. */
    number: 'integer',
    /** The standing that the peer acknowledged. */
    epoch: 'text',
    entry_no: 'integer',
    digest: 'text',
    contact_at: 'text',
  },
  primaryKey: ['peer'],
} as const satisfies OwnTable
