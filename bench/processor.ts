import { readdirSync, readFileSync } from 'node:fs'

/** What the kernel counts in; the same on all Linux machines that Node runs on. */
const TICK_MS = 10

/** The processor time in milliseconds that processes have used, and those that they started, with all that have ended; NaN where the system has no /proc. */
export function processorMs(pids: readonly number[]): number {
  if (process.platform !== 'linux') return Number.NaN
  const all = readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? (statOf(name) ?? []) : []))
  return all.filter(({ pid, parent }) => pids.includes(pid) || pids.includes(parent)).reduce((sum, { ms }) => sum + ms, 0)
}

/** https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html */
function statOf(name: string): { readonly pid: number; readonly parent: number; readonly ms: number } | undefined {
  try {
    const text = readFileSync(`/proc/${name}/stat`, 'utf8')
    // Behind the name of the program, which may hold anything.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
    const times = fields.slice(11, 15).map(Number)
    return { pid: Number(name), parent: Number(fields[1]), ms: times.reduce((sum, time) => sum + time, 0) * TICK_MS }
  } catch {
    return undefined // it has just ended
  }
}
