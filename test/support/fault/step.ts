import { setImmediate } from 'node:timers/promises'
import pg from 'pg'

/** Where a process ends: at the last of these texts, once the others were met before it, in order. Texts are statements with their values. */
export interface StepAt {
  readonly met: readonly string[]
  /** 'before' the last one is run; 'sent': it is on its way and nobody has answered; 'after' it. Default 'before'. SQLite knows 'before' only. */
  readonly when?: 'before' | 'sent' | 'after'
  /** Whether statements that can go together do so, on PostgreSQL: then they are one, with a text of one line for each. Otherwise each is met by itself. */
  readonly together?: boolean
}

/** Whatever comes next. */
export const ANYTHING = ''

/** Ends this process as a power cut would. */
export function die(): never {
  process.kill(process.pid, 'SIGKILL')
  for (;;); // it has ended
}

/** Told of each statement of a connection; true at the one where the process is to end. */
export function watcher(step: StepAt | undefined): (statement: string) => boolean {
  const patterns = (step?.met ?? []).map((text) => new RegExp(text, 'is'))
  let at = 0
  return (statement) => {
    if (at >= patterns.length || !patterns[at]?.test(statement)) return false
    at++
    return at === patterns.length
  }
}

/** For `new Database(file, { verbose })`: SQLite's driver says each statement before it runs it. */
export function verboseUntil(step: StepAt | undefined): (statement?: unknown) => void {
  const isReached = watcher(step)
  return (statement) => {
    if (isReached(String(statement))) die()
  }
}

interface Statement {
  readonly text: string
  readonly values?: readonly unknown[]
}

/** A pool whose connections say each statement. */
export function poolUntil(config: pg.PoolConfig, step: StepAt | undefined): pg.Pool {
  class Client extends pg.Client {
    /** Without it they go one after another. */
    static readonly Query = step?.together ? pg.Query : undefined
    private readonly isReached = watcher(step)

    // biome-ignore lint/suspicious/noExplicitAny: as the driver declares it
    override query(...args: any[]): any {
      const [config, values] = args
      const all: readonly Statement[] =
        typeof config === 'string' ? [{ text: config, values }] : (config.statements ?? [{ ...config, values: values ?? config.values }])
      const isReached = this.isReached(all.map(({ text, values = [] }) => `${text} ${JSON.stringify(values)}`).join('\n'))
      const when = step?.when ?? 'before'
      if (isReached && when === 'before') die()
      const answer = (super.query as (...all: unknown[]) => unknown)(...args)
      if (isReached && when === 'after') (answer as Promise<unknown>).then(die)
      // What was written in this turn of the event loop is with the system by the next.
      if (isReached && when === 'sent') setImmediate().then(die)
      return answer
    }
  }
  const pool = new pg.Pool({ ...config, Client })
  pool.on('error', () => undefined)
  return pool
}
