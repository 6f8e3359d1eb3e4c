import { TillsyncError } from '../../../src/errors.ts'
import type { RegisterName } from '../../../src/index.ts'
import type { Link } from '../../../src/ports.ts'
import { Break } from '../differential/break.ts'
import type { Fate } from './steps.ts'

interface Letter {
  readonly from: RegisterName
  readonly bytes: Uint8Array
  /** What becomes of it when it arrives, where it goes by mailbox. */
  deliver?(): Promise<void>
}

/** With which head office pulls any register. */
export const TOKEN = 'T'.repeat(43)

/** More messages than any till needs in one go. */
const MOST_MESSAGES = 300

/** What lies between the tills and central: it does with messages what it is told to. */
export class Network {
  /** On their way, for however long. */
  readonly letters: Letter[] = []
  readonly receive: (from: RegisterName, bytes: Uint8Array) => Promise<Uint8Array>
  private readonly deliver: (letter: Letter) => Promise<unknown>
  private fates: Fate[] = []
  private overtaking: (() => Promise<void>) | undefined
  private messages = 0

  constructor(deliver: (from: RegisterName, bytes: Uint8Array) => Promise<Uint8Array>) {
    this.receive = deliver
    this.deliver = (letter) => letter.deliver?.() ?? deliver(letter.from, letter.bytes)
  }

  nextFate(): Fate {
    return this.fates.shift() ?? 'ok'
  }

  /** What becomes of the next messages; those beyond arrive. @param overtaking what another process does that overtakes one */
  expect(fates: readonly Fate[], overtaking?: () => Promise<void>): void {
    this.fates = [...fates]
    this.overtaking = overtaking
    this.messages = 0
  }

  /** The other process is not overtaken itself, and all its messages arrive. */
  async overtake(): Promise<void> {
    const { fates, overtaking } = this
    this.fates = []
    this.overtaking = undefined
    await overtaking?.()
    this.fates = fates
    this.overtaking = overtaking
  }

  link(from: RegisterName): Link {
    let last: Uint8Array | undefined
    return {
      exchange: async (bytes) => {
        if (++this.messages > MOST_MESSAGES) throw new Break('endless', `More than ${MOST_MESSAGES} messages in one run`)
        const letter = { from, bytes: Uint8Array.from(bytes) }
        const fate = this.nextFate()
        if (fate === 'kept' || fate === 'copied') this.letters.push(letter)
        if (fate === 'kept' || fate === 'lost') throw unreachable()
        if (fate === 'twice') await this.deliver(letter)
        if (fate === 'overtaken') await this.overtake()
        const answer = await this.receive(from, letter.bytes)
        if (fate === 'overtaken late') await this.overtake()
        const earlier = last
        last = answer
        if (fate === 'cut') throw unreachable()
        return fate === 'stale' && earlier ? earlier : answer
      },
    }
  }

  /** By which head office reaches the register's copy that stands at its address now. */
  pulling(reach: (register: string) => ((request: Request) => Promise<Response>) | undefined): typeof fetch {
    const last = new Map<string, Response>()
    return async (url, init) => {
      const request = new Request(url, init)
      const { hostname } = new URL(request.url)
      const till = reach(hostname)
      if (till === undefined) throw unreachable()
      if (++this.messages > MOST_MESSAGES) throw new Break('endless', `More than ${MOST_MESSAGES} messages in one run`)
      const fate = this.nextFate()
      const copy = request.clone()
      const letter = { from: { location: '', register: hostname }, bytes: new Uint8Array(), deliver: async () => void (await till(copy)) }
      if (fate === 'kept' || fate === 'copied') this.letters.push(letter)
      if (fate === 'kept' || fate === 'lost') throw unreachable()
      if (fate === 'twice') await till(request.clone())
      if (fate === 'overtaken') await this.overtake()
      const answer = await till(request)
      if (fate === 'overtaken late') await this.overtake()
      const earlier = last.get(hostname)
      // What ended within an exchange has answered nothing.
      if (answer.status !== 500) last.set(hostname, answer.clone())
      if (fate === 'cut') throw unreachable()
      return fate === 'stale' && earlier ? earlier : answer
    }
  }

  /** One that was kept arrives; nobody waits for the answer any more. */
  async deliverLetter(number: number): Promise<void> {
    const [letter] = this.letters.splice(number % Math.max(1, this.letters.length), 1)
    if (letter) await this.deliver(letter)
  }
}

function unreachable(): TillsyncError {
  return new TillsyncError('ERR_LINK', 'Central is not reached', { retryable: true })
}
