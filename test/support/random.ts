/** Chance that can be repeated: mulberry32, good enough to choose what a cashier does next. */
export class Random {
  private state: number

  constructor(seed: number) {
    this.state = seed >>> 0
  }

  /** From 0 up to, not including, 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.state ^ (this.state >>> 15), this.state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 0x1_0000_0000
  }

  /** A whole number, both ends included. */
  int(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1))
  }

  chance(probability: number): boolean {
    return this.next() < probability
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.int(0, 255)))
  }

  pick<T>(list: readonly T[]): T {
    return list[this.int(0, list.length - 1)] as T
  }

  shuffle<T>(list: readonly T[]): T[] {
    return list
      .map((item) => ({ item, at: this.next() }))
      .sort((a, b) => a.at - b.at)
      .map(({ item }) => item)
  }
}

/** `--NAME=value` of the command line. */
export function argument(name: string): string | undefined {
  const prefix = `--${name}=`
  return process.argv.find((argument) => argument.startsWith(prefix))?.slice(prefix.length)
}

/** The seed of `--seed=N`, or of the environment's TILLSYNC_SEED, or a new one. Whoever uses it prints it. */
export function seedOfRun(): number {
  const given = Number(argument('seed') ?? process.env.TILLSYNC_SEED)
  return Number.isSafeInteger(given) && given > 0 ? given : 1 + Math.floor(Math.random() * 2 ** 31)
}

/** How long a test's random work may take, in milliseconds: `--ms=N`, or what it takes by itself. */
export function budgetOfRun(usualMs: number): number {
  const given = Number(argument('ms'))
  return given > 0 ? given : usualMs
}

/** Numbers of rounds from 0: as many as the test makes by itself, or with `--ms=N` until this share of it has passed. */
export function* roundsOfRun(usual: number, share = 1): Generator<number> {
  const end = Date.now() + budgetOfRun(Infinity) * share
  for (let round = 0; end === Infinity ? round < usual : Date.now() < end; round++) yield round
}
