/** What runs in the background from `start` until `stop`, one run at a time. */
export class Background {
  private stopping = new AbortController()
  private running: Promise<unknown> | undefined

  /** Aborted when it stops: for what others begin that is to end with it. */
  get signal(): AbortSignal {
    return this.stopping.signal
  }

  /** Nothing where it runs already. */
  start(run: (stop: AbortSignal) => Promise<unknown>): void {
    if (this.running !== undefined) return
    this.stopping = new AbortController()
    this.running = run(this.stopping.signal)
  }

  /** Waits for what is under way, and then for `others` that end by the signal. */
  async stop(others?: () => Promise<unknown>): Promise<void> {
    this.stopping.abort()
    await this.running
    await others?.()
    this.stopping = new AbortController()
    this.running = undefined
  }
}
