import { setTimeout } from 'node:timers/promises'
import { TillsyncError } from './errors.ts'
import type { Clock } from './ports.ts'

export const systemClock: Clock = {
  now: () => Date.now(),
  ticks: () => performance.now(),
  random: () => Math.random(),
  async sleep(ms, signal) {
    try {
      await setTimeout(ms, undefined, signal ? { signal } : {})
    } catch (cause) {
      throw new TillsyncError('ERR_ABORTED', 'The wait was aborted', { cause })
    }
  },
}
