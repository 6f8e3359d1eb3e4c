// The host's own process: sells every 20 ms and answers at the end how long each sale took.
import Database from 'better-sqlite3'
import type { Place } from './backlog.ts'
import { seller as sqliteSeller } from './shop.ts'
import { connect, seller as postgresSeller } from './shop-postgres.ts'

/** When a sale began, in milliseconds since 1970, and how many it took. */
export type TimedSale = readonly [at: number, ms: number]

const EVERY_MS = 20
/** Beyond those of the backlog. */
const FIRST_NO = 1_000_000

async function openSeller(place: Place): Promise<(no: number) => Promise<void> | void> {
  if ('config' in place) return postgresSeller(await connect(place.config))
  const db = new Database(place.file)
  db.pragma('synchronous = FULL')
  return sqliteSeller(db)
}

const sell = await openSeller(JSON.parse(process.argv[2] as string) as Place)
for (let warm = 1; warm <= 20; warm++) await sell(FIRST_NO - warm)
const sales: TimedSale[] = []
let no = FIRST_NO
let selling = false
const timer = setInterval(async () => {
  if (selling) return
  selling = true
  const began = performance.now()
  await sell(no++)
  sales.push([performance.timeOrigin + began, performance.now() - began])
  selling = false
}, EVERY_MS)

process.send?.('selling')
process.once('message', () => {
  clearInterval(timer)
  process.send?.(sales, () => process.exit(0))
})
