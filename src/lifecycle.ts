/**
 * Installs, starts and stops of a replica, one after another in the order in which they were asked for: each finds what the one before has left, and none begins anything behind a stop that
 * came later. Where nothing is under way, it begins at once.
 */
export class Lifecycle {
  private last: Promise<unknown> | undefined

  turn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.last === undefined ? work() : this.last.then(work)
    const last: Promise<unknown> = turn.then(
      () => this.end(last),
      () => this.end(last),
    )
    this.last = last
    return turn
  }

  private end(turn: Promise<unknown>): void {
    if (this.last === turn) this.last = undefined
  }
}
