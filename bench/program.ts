import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'

/** A program of this folder in a process of its own. */
export interface Program<Ready> {
  readonly child: ChildProcess
  /** What it said when it was ready. */
  readonly ready: Ready
  /** Says 'stop'; answers what it says then, and ends with it. */
  stop(): Promise<unknown>
}

/** Starts it with `options`, which it reads as JSON, and with these flags of Node's, and waits for its first message. It ends with us. */
export async function startProgram<Ready>(name: string, options: unknown, flags: readonly string[] = []): Promise<Program<Ready>> {
  const child = fork(join(import.meta.dirname, name), [JSON.stringify(options)], {
    execPath: process.execPath,
    execArgv: [...process.execArgv, ...flags],
  })
  const kill = () => child.kill('SIGKILL')
  process.once('exit', kill)
  const exited = once(child, 'exit')
  const said = async () => {
    const failed = exited.then(([code]) => {
      throw new Error(`${name} ended with ${code}`)
    })
    return ((await Promise.race([once(child, 'message'), failed])) as unknown[])[0]
  }
  const ready = (await said()) as Ready
  const stop = async () => {
    const last = said()
    child.send('stop')
    const answer = await last
    await exited
    process.off('exit', kill)
    return answer
  }
  return { child, ready, stop }
}
