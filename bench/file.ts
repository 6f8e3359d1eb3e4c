import { randomBytes } from 'node:crypto'
import { copyFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { startPostgres } from '../examples/support/postgres.ts'
import type { PushTransfer } from '../src/index.ts'
import { fileMailbox } from '../src/transport/file.ts'
import { httpLink } from '../src/transport/http.ts'
import { type Bench, expect, interleave, toResult } from './measure.ts'
import { type Counted, drain, type Ready, sealedTill } from './pipeline.ts'
import { startProgram } from './program.ts'
import { LINES, ROWS, temporaryFolder } from './shop.ts'

const ENTRIES = 100_000
/** Entries in a batch, for both alike: as a stick has them. */
const BATCH = 2_000

/** Where letters lie, for both ends. */
export interface Letters {
  readonly folder: string
  readonly key: string
  readonly lookMs: number
}

export const file: Bench = {
  name: 'file',
  about: `entries a second of ${ENTRIES.toLocaleString('en')} sealed ones to posted movements and back to the till, as files in a folder that both ends see, beside loopback HTTP with batches of the same size`,
  rounds: 3,
  async run({ rounds, note }) {
    const folder = temporaryFolder()
    const template = join(folder, 'sealed.sqlite')
    const entries = await sealedTill(template, ENTRIES)
    note(`${entries.toLocaleString('en')} entries sealed`)
    const letters: Letters = { folder: join(folder, 'letters'), key: randomBytes(32).toString('base64url'), lookMs: 20 }
    mkdirSync(letters.folder)
    const server = await startPostgres()
    try {
      const { config } = await server.createDatabase()
      const { ready, stop } = await startProgram<Ready>('pipeline-central.ts', { config, rounds: 2 * (rounds + 1), letters })
      const tokens = [...ready.tokens]
      const next = async (transferOf: (own: Ready['tokens'][number]) => PushTransfer) => {
        const own = tokens.shift() as Ready['tokens'][number]
        const till = join(folder, `${own.register}.sqlite`)
        copyFileSync(template, till)
        return drain(till, own.register, { ...transferOf(own), recordsPerRun: BATCH }, entries)
      }
      const { carried, linked } = await interleave(rounds, {
        carried: () => next(({ register }) => ({ type: 'push', mailbox: fileMailbox({ ...letters, location: 'BA01', register }) })),
        linked: () =>
          next(({ token }) => ({ type: 'push', link: httpLink({ url: `http://127.0.0.1:${ready.port}/sync`, token }), bytesPerRun: 2_097_152 })),
      })
      const counted = (await stop()) as Counted
      expect('the number of movements', counted.movements, 2 * (rounds + 1) * (entries / ROWS) * LINES)
      expect('the stock of all articles', counted.level, counted.moved)
      return [toResult('file', 'entries/s', carried, linked)]
    } finally {
      await server.stop()
    }
  },
}
