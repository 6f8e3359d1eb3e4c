import { once } from 'node:events'
import { connect as connectHttp2, createServer as createHttp2Server, type IncomingHttpHeaders } from 'node:http2'
import { type AddressInfo, connect } from 'node:net'
import { buffer, text } from 'node:stream/consumers'
import t, { type Test } from 'tap'
import { httpLink, toNodeHandler } from '../../src/transport/http.ts'
import { startServer } from '../support/postgres.ts'
import { Random, seedOfRun } from '../support/random.ts'
import { randomLine } from '../support/sales.ts'
import { openShop, type Shop } from '../support/shop.ts'
import { message } from '../support/wire.ts'

const server = await startServer(t)
const random = new Random(seedOfRun())

/** A client of HTTP/2 in the clear, as hosts pass one to `httpLink`. */
async function overHttp2(t: Test, { central }: Shop): Promise<{ readonly url: string; readonly fetch: typeof globalThis.fetch }> {
  const http = createHttp2Server(toNodeHandler(central.fetch)).listen(0, '127.0.0.1')
  await once(http, 'listening')
  const url = `http://127.0.0.1:${(http.address() as AddressInfo).port}/sync`
  const client = connectHttp2(url)
  t.teardown(() => {
    client.close()
    http.close()
  })
  const fetch = async (_: unknown, init: RequestInit = {}) => {
    const stream = client.request({ ':method': 'POST', ...(init.headers as Record<string, string>) }, { signal: init.signal ?? undefined })
    stream.end(init.body)
    const [{ ':status': status, 'content-type': type = '' }] = (await once(stream, 'response')) as [IncomingHttpHeaders]
    return new Response(await buffer(stream), { status: Number(status), headers: { 'content-type': type } })
  }
  return { url, fetch: fetch as typeof globalThis.fetch }
}

t.test('HTTP/2 as well', async (t) => {
  const shop = await openShop(t, server)
  const till = await shop.addTill()
  const warnings: Error[] = []
  const warn = (warning: Error) => warnings.push(warning)
  process.on('warning', warn)
  t.teardown(() => process.off('warning', warn))
  const { url, fetch } = await overHttp2(t, shop)
  let token = 'x'.repeat(43)
  const running = till.again({ link: () => httpLink({ url, fetch, token: () => token }) })
  for (let n = 0; n < 300; n++) till.cashier.sell(`R-${n}`, [randomLine(random)])
  await t.rejects(running.synchronize(), { code: 'ERR_CREDENTIAL' }, 'refused before the body is read')
  token = till.token
  await running.synchronize()
  await shop.balances(t, till)
  t.same(warnings, [])
})

t.test('a body over HTTP/2 that is refused while it comes leaves no stream open', async (t) => {
  const shop = await openShop(t, server, { maxMessageBytes: 100_000 })
  const { token } = await shop.addTill()
  const http = createHttp2Server(toNodeHandler(shop.central.fetch)).listen(0, '127.0.0.1')
  await once(http, 'listening')
  const client = connectHttp2(`http://127.0.0.1:${(http.address() as AddressInfo).port}`)
  t.teardown(() => {
    client.destroy()
    http.close()
  })
  const closed: Promise<unknown>[] = []
  http.on('stream', (stream) => closed.push(once(stream, 'close')))
  const stream = client.request({ ':method': 'POST', authorization: `Bearer ${token}` })
  stream.write(Buffer.alloc(1_000_000))
  const [{ ':status': status }] = (await once(stream, 'response')) as [IncomingHttpHeaders]
  t.equal(status, 413)
  t.ok((await buffer(stream)).length > 0, 'with the whole answer')
  await Promise.all(closed)
  t.equal(closed.length, 1)
})

t.test('what a client says in its headers', async (t) => {
  const shop = await openShop(t, server)
  const [till, other] = [await shop.addTill(), await shop.addTill('POS2')]
  const body = Buffer.from(await message(till))
  const { port, hostname } = new URL(shop.url)
  const length = `Content-Length: ${body.length}`
  const own = `Authorization: Bearer ${till.token}`
  const last = 'Connection: close'
  const head = (headers: readonly string[], method = 'POST') => [`${method} /sync HTTP/1.1`, 'Host: central', ...headers, '', ''].join('\r\n')
  const whole = (...headers: readonly string[]) => [head([...headers, length]), body]
  const chunked = (...headers: readonly string[]) => [head(headers), `${body.length.toString(16)}\r\n`, body, '\r\n0\r\n\r\n']
  /** The statuses that come back on one connection for all that is sent on it. */
  const said = async (...sent: readonly (string | Uint8Array)[]) => {
    const socket = connect(Number(port), hostname)
    for (const bytes of sent) socket.write(bytes)
    return [...(await text(socket)).matchAll(/HTTP\/1.1 (\d+)/g)].map(([, status]) => Number(status))
  }
  t.same(await said(...whole(own, last)), [200])
  t.same(await said(...whole(own.replace('Bearer ', 'bearer  '), last)), [200], 'the scheme in any case')
  t.same(await said(...whole(own, `Authorization: Bearer ${other.token}`, last)), [401], 'two credentials are none')
  t.same(await said(...whole('Authorization: Bearer x', own, last)), [401])
  t.same(await said(head([], 'GET'), ...whole(own), ...whole(own, last)), [405, 200, 200], 'one after another')
  t.same(await said(head(['Content-Length: 100000', 'Authorization: Bearer x']), ...whole(own)), [401], 'a body that nobody reads is no request')
  t.same(await said(...chunked(own, 'Transfer-Encoding: chunked', last)), [200])
  t.same(await said(...chunked(own, 'Transfer-Encoding: chunked', length)), [400], 'two lengths')
})
