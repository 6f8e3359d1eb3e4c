import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import { mailboxContract } from '../../src/testing.ts'
import { centralFileMailbox, fileMailbox } from '../../src/transport/file.ts'
import { createPool, startServer } from '../support/postgres.ts'
import { inContract, tillDatabase } from './links.ts'

const server = await startServer(t)
const pool = await createPool(t, server)
const { test, seed } = inContract(t)

mailboxContract(test, {
  seed,
  database: () => postgres(pool),
  tillDatabase,
  open() {
    const folder = mkdtempSync(join(tmpdir(), 'tillsync-letters-'))
    const key = randomBytes(32)
    return {
      central: () => centralFileMailbox({ folder, keys: () => key, lookMs: 10 }),
      register: (name) => fileMailbox({ ...name, folder, key, lookMs: 10 }),
      close: () => rmSync(folder, { recursive: true, force: true }),
    }
  },
})
