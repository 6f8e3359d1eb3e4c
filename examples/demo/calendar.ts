/** The days of the show. Its clocks begin at noon of today, so that no midnight comes in between by chance; nights are skipped. */
export class Calendar {
  private readonly began = new Date()
  private days = 0

  /** How far the tills' clocks are ahead of the machine's. */
  get aheadMs(): number {
    return this.noon(this.days).getTime() - this.began.getTime()
  }

  /** ISO 8601, where the tills stand: today, or so many days later. */
  day(later = 0): string {
    const noon = this.noon(this.days + later)
    return [noon.getFullYear(), noon.getMonth() + 1, noon.getDate()].map((part) => String(part).padStart(2, '0')).join('-')
  }

  pass(days: number): void {
    this.days += days
  }

  private noon(day: number): Date {
    const { began } = this
    return new Date(began.getFullYear(), began.getMonth(), began.getDate() + day, 12)
  }
}

/** Puts the clock of this process ahead, for the POS and the library alike: as if it stood in a machine on another day. */
export function putAhead(ms: number): void {
  const now = Date.now
  Date.now = () => now() + ms
}
