// Head office of the benches that watch a till: acknowledges whatever comes, and does nothing with it.
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { buffer } from 'node:stream/consumers'
import { systemClock } from '../src/clock.ts'
import type { RegisterName, Standing } from '../src/model.ts'
import type { Subscriber } from '../src/ports.ts'
import { answer } from '../src/transport/answer.ts'
import { Holds } from '../src/transport/holds.ts'
import { CONTENT_TYPE } from '../src/transport/http-client.ts'

const standings = new Map<string, Standing>()
const subscriber: Subscriber = {
  async receive({ register }, _publish, batch) {
    if (batch) standings.set(register, { epoch: batch.epoch, ...batch.through })
    return { subscription: { standing: standings.get(register) } }
  },
}
const answerer = {
  subscriber,
  takes: { message: 67_108_864, document: 67_108_864 },
  holds: new Holds(systemClock, 0),
  ready: async () => undefined,
  onRefused: (_: RegisterName, error: Error) => console.error(error),
}

const server = createServer(async (request, response) => {
  const register = request.headers.authorization?.replace('Bearer ', '') ?? ''
  const answered = await answer(answerer, { location: 'BA01', register }, await buffer(request))
  response.writeHead(200, { 'content-type': CONTENT_TYPE }).end(answered)
})
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }))
process.once('message', () => {
  process.send?.('stopped')
  server.close()
  server.closeAllConnections()
  process.disconnect?.()
})
