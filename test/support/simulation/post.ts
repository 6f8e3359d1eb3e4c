import { setImmediate } from 'node:timers/promises'
import { TillsyncError } from '../../../src/errors.ts'
import type { RegisterName } from '../../../src/index.ts'
import type { Clock, Letter, Mailbox } from '../../../src/ports.ts'
import { Break } from '../differential/break.ts'
import type { SimulatedClock } from './clock.ts'
import type { Network } from './network.ts'

/** More letters than any till needs in one go. */
const MOST_LETTERS = 2_000
/** Turns of the event loop in which nobody has anything to do: then nothing more comes of what was sent. */
const QUIET_TURNS = 12

interface Box {
  readonly letters: Uint8Array[]
  /** Released; they come again with the next who receives. */
  readonly released: Uint8Array[]
  /** All that ever came, so that one may come again. */
  readonly former: Uint8Array[]
}

/** Mailboxes over the simulated network: each letter, both ways, meets a fate; a letter that is late is kept by the network. All that speaks under one name has one box. */
export class Post {
  /** What a carrier never throws, and the library would take for the carrier's. */
  broken: unknown
  private readonly network: Network
  private readonly boxes = new Map<string, Box>()
  private readonly waiting = new Set<() => void>()
  private open = 0
  private isHeldUp = false
  private letters = 0

  constructor(network: Network) {
    this.network = network
  }

  begin(): void {
    this.letters = 0
  }

  /** @throws Break where something was thrown that a carrier never throws */
  check(): void {
    const { broken } = this
    this.broken = undefined
    if (broken) throw broken
  }

  mailbox(from: RegisterName): Mailbox {
    const box = this.boxOf(from)
    return {
      send: async (message) => {
        if (++this.letters > MOST_LETTERS) this.broken ??= new Break('endless', `More than ${MOST_LETTERS} letters in one run`)
        if (this.broken) throw new TillsyncError('ERR_LINK', 'It is broken already')
        await this.post({ from, bytes: Uint8Array.from(message), deliver: (bytes) => this.up(from, bytes) })
      },
      receive: ({ signal }) => this.receive(box, signal),
    }
  }

  /** Of all letters that are on their way this long, `network` decides when they arrive. */
  private async post(letter: { readonly from: RegisterName; readonly bytes: Uint8Array; deliver(bytes: Uint8Array): Promise<void> }): Promise<void> {
    const { network } = this
    const fate = network.nextFate()
    const late = { from: letter.from, bytes: letter.bytes, deliver: () => letter.deliver(letter.bytes) }
    if (fate === 'kept' || fate === 'copied') network.letters.push(late)
    if (fate === 'kept' || fate === 'lost' || fate === 'cut') return
    if (fate === 'twice') await letter.deliver(letter.bytes)
    if (fate === 'overtaken') await this.overtake()
    await letter.deliver(letter.bytes)
    if (fate === 'overtaken late') await this.overtake()
    const { former } = this.boxOf(letter.from)
    if (fate === 'stale' && former.length > 0) this.put(letter.from, former[Math.floor(former.length / 2)] as Uint8Array)
  }

  /** Time passes meanwhile though a letter is being worked on: it may be by the process that is held up. */
  private async overtake(): Promise<void> {
    this.isHeldUp = true
    await this.network.overtake()
    this.isHeldUp = false
  }

  private async up(from: RegisterName, bytes: Uint8Array): Promise<void> {
    let answer: Uint8Array
    try {
      answer = await this.network.receive(from, bytes)
    } catch (error) {
      this.broken ??= error
      return
    }
    await this.post({ from, bytes: answer, deliver: async (bytes) => this.put(from, bytes) })
  }

  private put(to: RegisterName, bytes: Uint8Array): void {
    const box = this.boxOf(to)
    box.letters.push(bytes)
    box.former.push(bytes)
    for (const waiting of this.waiting) waiting()
  }

  private boxOf({ register }: RegisterName): Box {
    const box = this.boxes.get(register) ?? { letters: [], released: [], former: [] }
    this.boxes.set(register, box)
    return box
  }

  private async *receive(box: Box, signal: AbortSignal): AsyncGenerator<Letter> {
    box.letters.unshift(...box.released.splice(0))
    while (!signal.aborted) {
      const message = box.letters.shift()
      if (message === undefined) {
        await this.news(signal)
        continue
      }
      this.open++
      let isOpen = true
      const close = (): boolean => {
        if (isOpen) this.open--
        const was = isOpen
        isOpen = false
        return was
      }
      try {
        yield {
          message,
          acknowledge: async () => void close(),
          release: async () => void (close() && box.released.push(message)),
        }
      } finally {
        if (close()) box.released.push(message)
      }
    }
  }

  private async news(signal: AbortSignal): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>()
    this.waiting.add(resolve)
    signal.addEventListener('abort', () => resolve(), { once: true })
    await promise
    this.waiting.delete(resolve)
  }

  /** A clock by which time passes as soon as nobody has anything to do. */
  clock(simulated: SimulatedClock): Clock {
    return {
      now: simulated.now,
      ticks: simulated.ticks,
      random: simulated.random,
      sleep: async (ms, signal) => {
        for (let quiet = 0; quiet < QUIET_TURNS; quiet = this.open > 0 && !this.isHeldUp ? 0 : quiet + 1) {
          await setImmediate()
          if (signal?.aborted) throw new TillsyncError('ERR_ABORTED', 'The wait was aborted')
        }
        simulated.pass(ms)
      },
    }
  }
}
