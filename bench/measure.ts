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
  /** What the project wants, e.g. 'ratio ≤ 1.35'. */
  readonly aim: string
  readonly holds: boolean
}

/** A bench: measures and answers its figures. */
export interface Bench {
  readonly name: string
  readonly about: string
  /** How many rounds it makes unless told otherwise. */
  readonly rounds: number
  run(rounds: number, note: (text: string) => void): Promise<readonly Result[]>
}

/** What is wanted of a figure: a bound of its ratio to the baseline, or of its median. */
export interface Aim {
  readonly of: 'ratio' | 'median'
  readonly bound: '≤' | '≥'
  readonly value: number
}

type Variant = () => number | Promise<number>

/**
 * Measures variants in interleaved rounds, each round in the other order than the one before, so that what else the machine
 * does at the time, and what a variant leaves behind, fall on all of them. The first round warms up and does not count.
 */
export async function interleave(rounds: number, variants: Readonly<Record<string, Variant>>): Promise<Readonly<Record<string, readonly number[]>>> {
  const figures: Record<string, number[]> = Object.fromEntries(Object.keys(variants).map((name) => [name, []]))
  for (let round = 0; round <= rounds; round++) {
    const order = Object.entries(variants)
    for (const [name, variant] of round % 2 === 0 ? order : order.reverse()) {
      const figure = await variant()
      if (round > 0) figures[name]?.push(figure)
    }
  }
  return figures
}

/** A figure from the rounds of what is measured, and of its baseline in the same rounds. */
export function toResult(name: string, unit: string, measured: readonly number[], baseline: readonly number[] | undefined, aim: Aim): Result {
  const ratio = baseline ? median(measured.map((figure, round) => figure / (baseline[round] as number))) : null
  const figure = aim.of === 'ratio' ? (ratio as number) : median(measured)
  return {
    name,
    unit,
    median: round(median(measured)),
    min: round(Math.min(...measured)),
    max: round(Math.max(...measured)),
    baseline: baseline ? round(median(baseline)) : null,
    ratio: ratio === null ? null : round(ratio),
    aim: `${aim.of} ${aim.bound} ${aim.value.toLocaleString('en')}`,
    holds: aim.bound === '≤' ? figure <= aim.value : figure >= aim.value,
  }
}

export function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? (sorted[middle] as number) : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2
}

/** Three significant digits say what such a figure can say. */
function round(figure: number): number {
  return figure >= 1_000 ? Math.round(figure) : Number(figure.toPrecision(3))
}
