// A till that was offline for weeks, in a process of its own: told where central is, it sends all that waits, and says at each tenth what memory it has.
import { httpLink } from '../src/transport/http.ts'
import { memoryNow } from './memory.ts'
import { register } from './shop.ts'
import type { TillSaid } from './weeks-offline.ts'

const { file, url, token } = JSON.parse(process.argv[2] as string) as { file: string; url: string; token: string }
const say = (said: TillSaid) => void process.send?.(said)
const till = register(file, 'POS1', { transfer: { type: 'push', link: httpLink({ url, token }) } })
const { pending: backlog } = await till.status() // opens it
let share = 0
process.once('message', async () => {
  const began = performance.now()
  let firstMs: number | undefined
  await till.synchronize({
    onProgress: ({ sent }) => {
      firstMs ??= performance.now() - began
      if (sent / backlog < share) return
      say({ share, sent, memory: memoryNow(), firstMs })
      share = Math.min(1, Math.floor((sent / backlog) * 10) / 10 + 0.1)
    },
  })
  say({ seconds: (performance.now() - began) / 1_000, pending: (await till.status()).pending })
  await till.stop()
  process.disconnect?.()
})
process.send?.({ backlog })
