import type { TillsyncError } from './errors.ts'

export interface ReachabilityOptions {
  onOffline(error: TillsyncError): void
  onOnline(): void
  /** What failed though the other side was reached. */
  onFailed(error: TillsyncError): void
}

/** Whether the other side can be reached. No network is normal: it is said when it goes and when it is back, not at every try. */
export class Reachability {
  isOffline = false
  private readonly options: ReachabilityOptions

  constructor(options: ReachabilityOptions) {
    this.options = options
  }

  failed(error: TillsyncError): void {
    if (error.code !== 'ERR_LINK') {
      this.reached()
      this.options.onFailed(error)
    } else if (!this.isOffline) {
      this.isOffline = true
      this.options.onOffline(error)
    }
  }

  reached(): void {
    if (!this.isOffline) return
    this.isOffline = false
    this.options.onOnline()
  }
}
