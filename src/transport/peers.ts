import type { Standing } from '../model.ts'
import type { Database } from '../ports.ts'
import { compiledOnce, insert, query, type Work } from '../work.ts'
import { PEERS } from './tables.ts'

const peerOf = compiledOnce(({ build }) => build.selectFrom(PEERS.name).selectAll().where('peer', '=', '').compile().sql)

/** By this name a register knows central. */
export const CENTRAL = 'central'

export interface Peer {
  /** How far the peer has come in our stream, as it last said; undefined where it has nothing. */
  readonly standing: Standing | undefined
  /** When it last answered, to about a minute; ISO 8601, UTC. */
  readonly contactAt: string
}

export function* readPeer(database: Database, peer: string): Work<Peer | undefined> {
  const [row] = yield* query<{ epoch: string | null; entry_no: number; digest: string; contact_at: string }>({
    sql: peerOf(database),
    parameters: [peer],
  })
  if (row === undefined) return undefined
  const standing = row.epoch === null ? undefined : { epoch: row.epoch, entryNo: row.entry_no, digest: row.digest }
  return { standing, contactAt: row.contact_at }
}

export function* writePeer(name: string, { standing, contactAt }: Peer): Work<void> {
  yield* insert(PEERS, [[name, standing?.epoch ?? null, standing?.entryNo ?? 0, standing?.digest ?? '', contactAt]], PEERS.primaryKey)
}
