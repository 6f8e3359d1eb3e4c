import t from 'tap'
import { postgres } from '../../src/adapters/postgres/adapter.ts'
import type { RegisterName } from '../../src/model.ts'
import type { CentralMailbox, Letter, Mailbox, ReceiveOptions } from '../../src/ports.ts'
import { type ContractMailboxes, type ContractTest, mailboxContract } from '../../src/testing.ts'
import { tillDatabase } from '../contract/links.ts'
import { PostOffice } from '../support/post-office.ts'
import { createPool, startServer } from '../support/postgres.ts'

const server = await startServer(t)
t.jobs = 3
t.setTimeout(120_000)

interface Boxes {
  central(): CentralMailbox
  register(name: RegisterName): Mailbox
}

function officeBoxes(): Boxes {
  const office = new PostOffice()
  return { central: () => office.central(), register: (name) => office.mailbox(name) }
}

/** With another thing done to each letter that is received. */
function receiving<M extends Mailbox | CentralMailbox>(good: M, change: (letter: Letter) => Letter | Promise<Letter>): M {
  return {
    ...good,
    async *receive(options: ReceiveOptions) {
      for await (const letter of good.receive(options)) yield await change(letter)
    },
  } as M
}

function sending(good: Mailbox, send: (message: Uint8Array) => Uint8Array | undefined): Mailbox {
  return {
    ...good,
    async send(message, options) {
      const changed = send(message)
      if (changed) await good.send(changed, options)
    },
  }
}

/** What is broken, and the words of the promises that must be found broken by it; others may be too. */
type Broken = readonly [what: string, make: (good: Boxes) => ContractMailboxes, found: readonly RegExp[]]

const BROKEN: readonly Broken[] = [
  [
    'acknowledges letters when it gives them out',
    (good) => ({
      ...good,
      central: () =>
        receiving(good.central(), async (letter) => {
          await letter.acknowledge()
          return letter
        }),
    }),
    [/stay until they are acknowledged/, /released comes again/],
  ],
  [
    'forgets what was acknowledged',
    (good) => ({ ...good, central: () => receiving(good.central(), (letter) => ({ ...letter, acknowledge: () => letter.release() })) }),
    [/stay until they are acknowledged/],
  ],
  [
    'alters messages',
    (good) => ({ ...good, register: (name) => sending(good.register(name), (message) => message.map((byte) => byte ^ 1)) }),
    [/arrives as it is/, /small and large/],
  ],
  [
    'drops every message',
    (good) => ({ ...good, register: (name) => sending(good.register(name), () => undefined) }),
    [/arrives as it is/, /stay until they are acknowledged/],
  ],
  [
    'takes small messages only, and says nothing',
    (good) => ({ ...good, register: (name) => sending(good.register(name), (message) => (message.length > 100_000 ? undefined : message)) }),
    [/arrives as it is/, /small and large/],
  ],
  [
    'says of every letter that it is of the same register',
    (good) => ({
      ...good,
      central: () => receiving(good.central(), (letter) => ({ ...letter, from: { location: letter.from?.location ?? '', register: 'POS1' } })),
    }),
    [/to several registers/, /two centrals/],
  ],
  [
    "gives every register every register's letters",
    (good) => ({
      ...good,
      register: ({ location }) => good.register({ location, register: 'POS1' }),
      central: () => ({ ...good.central(), send: ({ location }, message) => good.central().send({ location, register: 'POS1' }, message) }),
    }),
    [/arrives as it is/],
  ],
  [
    'does not end with the signal',
    (good) => ({ ...good, central: () => ({ ...good.central(), receive: () => good.central().receive({ signal: AbortSignal.timeout(4_000) }) }) }),
    [/ends with its signal/],
  ],
]

const run = (make: (good: Boxes) => ContractMailboxes, pool: Awaited<ReturnType<typeof createPool>>, test: ContractTest, withinMs: number) =>
  mailboxContract(test, { database: () => postgres(pool), tillDatabase, withinMs, open: () => make(officeBoxes()) })

const pool = await createPool(t, server)
let isFirst = true
run(
  (good) => good,
  pool,
  (name, act) => {
    t.test(`good boxes pass: ${name}`, { buffered: !isFirst }, act)
    isFirst = false
  },
  15_000,
)

for (const [what, make, found] of BROKEN) {
  t.test(`a mailbox that ${what} does not pass`, { buffered: true }, async (t) => {
    const pool = await createPool(t, server)
    const promises = new Map<string, () => Promise<void>>()
    run(make, pool, (name, act) => promises.set(name, act), 2_000)
    for (const words of found) {
      const [name, act] = [...promises].find(([name]) => words.test(name)) ?? []
      const broken = await act?.().then(
        () => undefined,
        (error: unknown) => String(error),
      )
      t.ok(broken, `it breaks the promise: ${name}`)
      t.comment(broken?.split('\n')[0] ?? '')
    }
  })
}
