/** A figure of one bench, as bench/results.json keeps it. */
export interface Result {
  readonly name: string
  readonly unit: string
  readonly median: number
  readonly min: number
  readonly max: number
  /** The median of what it is measured against, in the same unit and run; null where the figure stands for itself. */
  readonly baseline: number | null
  /** The median of the rounds' own ratios to the baseline; null without one. */
  readonly ratio: number | null
  /** The median of the rounds' own differences from the baseline; null without one. */
  readonly difference: number | null
  /** What the project wants, e.g. 'ratio ≤ 1.3'; null where the figure is there to be compared with. */
  readonly aim: string | null
  readonly holds: boolean | null
}

/** What a bench is told. */
export interface Run {
  readonly rounds: number
  /** How many entries there are to be worked on. */
  readonly entries: number
  /** Says what it does meanwhile, or a figure beside the table. */
  readonly note: (text: string) => void
}

/** A bench: measures and answers its figures. */
export interface Bench {
  readonly name: string
  readonly about: string
  /** How many rounds it makes unless told otherwise. */
  readonly rounds: number
  /** How many entries it works on unless told otherwise, where it can be told. */
  readonly entries?: number
  run(run: Run): Promise<readonly Result[]>
}

/** What is wanted of a figure: a bound of its ratio to the baseline, of its difference from it, or of its median. */
export interface Aim {
  readonly of: 'ratio' | 'difference' | 'median'
  readonly bound: '≤' | '≥'
  readonly value: number
}

/** Does the work once and answers what it measured, e.g. a figure, or wall and CPU side by side. */
type Variant<T> = () => T | Promise<T>

/** What a piece of work took, in milliseconds; CPU is that of the whole process. */
export interface Took {
  readonly wallMs: number
  readonly cpuMs: number
}

/**
 * Measures variants in interleaved rounds, each turn in the other order than the one before, so that what else the machine
 * does at the time, and what a variant leaves behind, fall on all of them. The first round warms up and does not count.
 * Where a turn is short a round can have many: then even a moment in which the disk is slow falls on all.
 */
export async function interleave<K extends string, T>(
  rounds: number,
  variants: Readonly<Record<K, Variant<T>>>,
  turns = 1,
): Promise<Readonly<Record<K, readonly T[]>>> {
  const names = Object.keys(variants) as K[]
  const figures = Object.fromEntries(names.map((name) => [name, []])) as unknown as Record<K, T[]>
  for (let turn = 0; turn < (rounds + 1) * turns; turn++) {
    for (const name of turn % 2 === 0 ? names : names.toReversed()) {
      const figure = await variants[name]()
      if (turn >= turns) figures[name].push(figure)
    }
  }
  return figures
}

/** Times work that is one call. */
export async function take(work: () => unknown): Promise<Took> {
  const cpu = process.cpuUsage()
  const began = performance.now()
  await work()
  const wallMs = performance.now() - began
  const { user, system } = process.cpuUsage(cpu)
  return { wallMs, cpuMs: (user + system) / 1_000 }
}

/** A bench that measured something else than it says is worse than none. */
export function expect(what: string, got: unknown, wanted: unknown): void {
  if (got !== wanted) throw new Error(`Expected ${what} to be ${String(wanted)}, got ${String(got)}: the figures mean nothing`)
}

/** A figure from the rounds of what is measured, and of its baseline in the same rounds. */
export function toResult(name: string, unit: string, measured: readonly number[], baseline?: readonly number[], aim?: Aim): Result {
  const against = (compare: (figure: number, base: number) => number) =>
    baseline ? median(measured.map((figure, n) => compare(figure, baseline[n] as number))) : null
  const figures = { median: median(measured), ratio: against((figure, base) => figure / base), difference: against((figure, base) => figure - base) }
  const wanted = aim && (figures[aim.of] as number)
  return {
    name,
    unit,
    median: round(figures.median),
    min: round(Math.min(...measured)),
    max: round(Math.max(...measured)),
    baseline: baseline ? round(median(baseline)) : null,
    ratio: figures.ratio === null ? null : round(figures.ratio),
    difference: figures.difference === null ? null : round(figures.difference),
    aim: aim ? `${aim.of} ${aim.bound} ${aim.value.toLocaleString('en')}` : null,
    holds: aim && wanted !== undefined ? (aim.bound === '≤' ? wanted <= aim.value : wanted >= aim.value) : null,
  }
}

/** Each round's turns as one figure: their mean, or where a turn that the disk held up must not count their median. */
export function roundsOf(figures: readonly number[], turns: number, as: (turns: readonly number[]) => number = mean): readonly number[] {
  const starts = Array.from({ length: figures.length / turns }, (_, round) => round * turns)
  return starts.map((start) => as(figures.slice(start, start + turns)))
}

function mean(figures: readonly number[]): number {
  return figures.reduce((sum, figure) => sum + figure, 0) / figures.length
}

export function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

export function percentile(figures: readonly number[], share: number): number {
  const sorted = [...figures].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number
}

/** Three significant digits say what such a figure can say. */
function round(figure: number): number {
  return figure >= 1_000 ? Math.round(figure) : Number(figure.toPrecision(3))
}
