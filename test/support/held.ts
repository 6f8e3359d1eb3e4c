import type { Test } from 'tap'
import { TillsyncError, type TillsyncErrorCode } from '../../src/index.ts'
import type { Shop, Till } from './shop.ts'

interface Quarantine {
  list(): Promise<readonly { readonly id: number }[]>
  retry(id: number): Promise<unknown>
}

/** A document of the till can't be applied, with this code: it waits in quarantine, or the batch is refused. Returns what was said of it. */
export async function held(t: Test, shop: Shop, till: Till, code: TillsyncErrorCode, message: string = code): Promise<string> {
  const found = await codeOf(shop, till)
  t.equal(found?.code, code, message)
  return found?.message ?? ''
}

async function codeOf(shop: Shop, till: Till): Promise<{ code: string; message: string } | undefined> {
  try {
    await till.replica.synchronize()
  } catch (error) {
    if (error instanceof TillsyncError) return error
    throw error
  }
  const { rows } = await shop.pool.query("SELECT to_regclass('sync_quarantine') IS NOT NULL AS there")
  if (!rows[0].there) return undefined
  return (await shop.pool.query("SELECT code, message FROM sync_quarantine WHERE state = 'waiting' ORDER BY quarantine_id DESC LIMIT 1")).rows[0]
}

/** The records that wait in quarantine, the last one first. */
export async function waiting(shop: Pick<Shop, 'pool'>): Promise<string[]> {
  const { rows } = await shop.pool.query("SELECT record_id FROM sync_quarantine WHERE state = 'waiting' ORDER BY quarantine_id DESC")
  return rows.map(({ record_id }) => record_id)
}

/** What held it was mended at central: what waits is tried again. */
export async function tryAgain(shop: Shop, till: Till): Promise<void> {
  await till.replica.synchronize()
  const { quarantine } = shop.central as { readonly quarantine?: Quarantine }
  for (const { id } of (await quarantine?.list()) ?? []) await quarantine?.retry(id)
}
