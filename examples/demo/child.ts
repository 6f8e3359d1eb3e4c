import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'

const PATIENCE_MS = 10_000

/** A process of the demo and what is said to it and by it. Whatever ends it but us is a crash. */
export class Child<In extends object, Out extends { readonly type: string }> {
  private readonly name: string
  private readonly process: ChildProcess
  private readonly errors: Buffer[] = []
  private expected = false

  constructor(name: string, module: URL, onMessage: (message: Out) => void, onCrash: (error: Error) => void) {
    this.name = name
    this.process = fork(module, { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] })
    this.process.stderr?.on('data', (text: Buffer) => this.errors.push(text))
    this.process.on('message', onMessage)
    this.process.on('error', onCrash)
    this.process.on('close', (code, signal) => {
      if (!this.expected) onCrash(new Error(`${this.name} ended by itself (${signal ?? `exit code ${code}`})\n${Buffer.concat(this.errors)}`))
    })
  }

  private get ended(): boolean {
    return this.process.pid === undefined || this.process.exitCode !== null || this.process.signalCode !== null
  }

  send(message: In): void {
    if (this.process.connected) this.process.send(message, () => undefined)
  }

  /** SIGKILL: it gets no chance to finish anything. */
  async kill(): Promise<void> {
    this.expected = true
    if (this.ended) return
    this.process.kill('SIGKILL')
    await once(this.process, 'exit')
  }

  /** Asks it to end, and does not wait for ever. */
  async stop(message: In): Promise<void> {
    this.expected = true
    if (this.ended) return
    const exited = once(this.process, 'exit')
    const impatient = setTimeout(() => this.process.kill('SIGKILL'), PATIENCE_MS)
    this.send(message)
    await exited
    clearTimeout(impatient)
  }
}
