// The tills of the bench `crowd`, in a process of their own: all open before the time runs, then all push until they are stopped.
import { copyFileSync } from 'node:fs'
import { join } from 'node:path'
import { httpLink } from '../src/transport/http.ts'
import type { CrowdTills } from './crowd.ts'
import { register, temporaryFolder } from './shop.ts'

const { port, tokens, file } = JSON.parse(process.argv[2] as string) as CrowdTills
const folder = temporaryFolder()
const tills = Object.entries(tokens).map(([name, token]) => {
  const copy = join(folder, `${name}.sqlite`)
  copyFileSync(file, copy)
  const link = httpLink({ url: `http://127.0.0.1:${port}/`, token })
  return register(copy, name, { transfer: { type: 'push', link } })
})
for (const till of tills) await till.seal() // opens it, and makes its plan

process.on('message', async (message) => {
  if (message === 'start') {
    await Promise.all(tills.map((till) => till.start()))
    return
  }
  await Promise.all(tills.map((till) => till.stop()))
  process.send?.('stopped', () => process.disconnect?.())
})
process.send?.('ready')
