import type { Standing } from '../model.ts'
import { type Database, insert, query, type Work } from '../ports.ts'
import { PEERS } from './tables.ts'

export interface Peer {
  /** The number of the last message that was sent and answered. */
  readonly number: number
  /** How far the peer has come in our stream, as it last said. */
  readonly standing: Standing
  /** When it last answered; ISO 8601, UTC. */
  readonly contactAt: string
}

export function* readPeer(database: Database, peer: string): Work<Peer | undefined> {
  const [row] = yield* query<{ number: number; epoch: string; entry_no: number; digest: string; contact_at: string }>(
    database.build.selectFrom(PEERS.name).selectAll().where('peer', '=', peer).compile(),
  )
  return row && { number: row.number, standing: { epoch: row.epoch, entryNo: row.entry_no, digest: row.digest }, contactAt: row.contact_at }
}

export function* writePeer(name: string, peer: Peer): Work<void> {
  const { number, standing, contactAt } = peer
  yield* insert(PEERS, [[name, number, standing.epoch, standing.entryNo, standing.digest, contactAt]], PEERS.primaryKey)
}
