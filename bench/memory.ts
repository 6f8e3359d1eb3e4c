export interface Memory {
  /** What is in use after a collection, in bytes: of V8's heap and outside of it. */
  readonly used: number
  readonly rss: number
  /** The most that the process ever had. */
  readonly peak: number
}

/** This process's. It is started with `--expose-gc`. */
export function memoryNow(): Memory {
  global.gc?.()
  const { heapUsed, rss, external } = process.memoryUsage()
  return { used: heapUsed + external, rss, peak: process.resourceUsage().maxRSS * 1_024 }
}
