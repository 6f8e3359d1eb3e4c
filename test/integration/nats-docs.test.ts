import { execFile } from 'node:child_process'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { promisify } from 'node:util'
import t, { type Test } from 'tap'
import { natsProgram, startNats } from '../../examples/support/nats.ts'
import { centralNatsMailbox, natsConfiguration, provisionNats } from '../../src/transport/nats.ts'
import { bytesOf, listening, mailboxOf, noNats } from '../support/nats.ts'

const run = promisify(execFile)
const PAGE = resolve(import.meta.dirname, '../../docs/nats.md')
const POS1 = { location: 'BA01', register: 'POS1', user: 'pos1', password: 'secret' }
const CENTRAL = { user: 'central', password: 'secret' }
const noOpenssl = await run('openssl', ['version']).then(
  () => false as const,
  () => 'there is no openssl on this machine, which makes the certificates',
)

/** A certificate of its own; the client looks for 'localhost' in it where a server is named by its address. */
async function certificate(t: Test): Promise<{ readonly folder: string; readonly cert: string; readonly key: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'tillsync-tls-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [cert, key] = [join(folder, 'hub.pem'), join(folder, 'hub.key')]
  const subject = ['-subj', '/CN=hub', '-addext', 'subjectAltName=DNS:localhost']
  await run('openssl', ['req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2', '-keyout', key, '-out', cert, ...subject])
  return { folder, cert, key }
}

t.test('the server takes the configurations of docs/nats.md', { skip: noNats || noOpenssl }, async (t) => {
  const { folder, cert, key } = await certificate(t)
  const page = await readFile(PAGE, 'utf8')
  const [server = '', cluster = '', ...others] = [...page.matchAll(/```nginx\n([\s\S]*?)```/g)].map(([, text]) => text as string)
  t.same(others, [])
  await writeFile(join(folder, 'tillsync.conf'), natsConfiguration({ central: CENTRAL, registers: [POS1] }))
  const text = `${server}${cluster.replace(/^server_name.*$/m, '')}`.replaceAll('/etc/nats/hub.pem', cert).replaceAll('/etc/nats/hub.key', key)
  const file = join(folder, 'nats-server.conf')
  await writeFile(file, text)
  const { stderr } = await run((await natsProgram()) as string, ['-t', '-c', file])
  t.match(stderr, /is valid/)
  await writeFile(file, `${text}\nno_such_thing: 1`)
  await t.rejects(run((await natsProgram()) as string, ['-t', '-c', file]), 'what it does not know it refuses')
})

t.test('by TLS, with a certificate that the mailbox is told to trust, and with no other', { skip: noNats || noOpenssl }, async (t) => {
  const { cert, key } = await certificate(t)
  const accounts = natsConfiguration({ central: CENTRAL, registers: [POS1] })
  const server = await startNats({ configuration: `tls { cert_file: "${cert}", key_file: "${key}" }\n${accounts}` })
  t.teardown(() => server.stop())
  const servers = `tls://127.0.0.1:${server.port}`
  const tls = { ca: await readFile(cert, 'utf8') }
  const { location, register, ...credentials } = POS1
  await provisionNats({ servers, tls, credentials: CENTRAL, registers: [{ location, register }] })
  const till = mailboxOf({ servers, tls, credentials, location, register })
  const central = centralNatsMailbox({ servers, tls: { caFile: cert }, credentials: CENTRAL })
  t.teardown(() => Promise.all([till.close?.(), central.close?.()]))
  await till.send(bytesOf('sale'))
  t.same((await listening(t, central).next()).from, { location, register })
  await t.rejects(mailboxOf({ servers, credentials, location, register }).send(bytesOf('sale')), { code: 'ERR_LINK', message: /certificate/ })
})
