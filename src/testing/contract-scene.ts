import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Central } from '../central-face.ts'
import type { RegisterName } from '../model.ts'
import type { CentralDatabase, Link } from '../ports.ts'
import { createToken } from '../transport/credentials.ts'
import { CONTENT_TYPE, httpClient } from '../transport/http-client.ts'
import { contractCentral, createContractTables } from './contract-central.ts'
import { ContractTill } from './contract-till.ts'
import { Door } from './door.ts'
import type { CheckedOptions, ContractLink, ContractServer } from './link-options.ts'
import { within } from './patience.ts'

/** A head office and its tills, for one test: the link under test is all that lies between them. */
export class ContractScene {
  readonly options: CheckedOptions
  readonly central: Central
  /** What the links of registers that push reach. */
  readonly door: Door
  readonly database: CentralDatabase
  /** Another one in each scene, so that one database does for all. */
  readonly location = `contract-${createToken().slice(0, 8)}`
  readonly isPulled: boolean
  private readonly folder = mkdtempSync(join(tmpdir(), 'tillsync-contract-'))
  private readonly tills: ContractTill[] = []
  private readonly closing: (() => Promise<void> | void)[] = []
  private readonly served = new Map<string, { readonly till: ContractTill; readonly server: ContractServer }>()

  private constructor(options: CheckedOptions) {
    this.options = options
    this.isPulled = options.serve !== undefined
    this.database = options.database()
    this.central = this.createCentral(this.database)
    this.door = new Door(() => this.central)
  }

  /** Runs a test in a scene of its own, and takes it down whatever comes. */
  static async play(options: CheckedOptions, act: (scene: ContractScene) => Promise<void>): Promise<void> {
    const scene = new ContractScene(options)
    try {
      await scene.open()
      await act(scene)
    } catch (error) {
      // What is broken keeps others from ending too; it is the first that counts.
      await scene.close().catch(() => undefined)
      throw error
    }
    await scene.close()
  }

  /** Another central on the same database, as another process would be. */
  another(): Central {
    const central = this.createCentral(this.options.database())
    this.closing.push(() => central.stop())
    return central
  }

  async addTill(register = 'POS1'): Promise<ContractTill> {
    const name = { location: this.location, register }
    const parts = { name, file: join(this.folder, `${register}.sqlite`), isPulled: this.isPulled, tillDatabase: this.options.tillDatabase }
    const till = this.isPulled ? await this.addPulled(parts) : await this.addPushing(parts)
    this.tills.push(till)
    await till.open()
    return till
  }

  /** The link under test for somebody who shows this token, reaching whatever `door` leads to. */
  async linkOf(name: RegisterName, token: string, door: Door = this.door): Promise<Link> {
    const link = (await this.options.link?.(door, name, token)) as ContractLink
    if (link.close) this.closing.push(() => link.close?.())
    return link
  }

  /** Where a till's exchanges are answered. */
  doorOf(till: ContractTill): Door {
    return this.isPulled ? till.door : this.door
  }

  /** Runs until everything has arrived; what ends it is thrown. */
  async synchronize(till: ContractTill, options: { readonly signal?: AbortSignal; readonly central?: Central } = {}): Promise<void> {
    const { central = this.central, signal } = options
    const settings = signal === undefined ? {} : { signal }
    if (this.isPulled) await central.synchronize(till.name, settings)
    else await till.register.synchronize(settings)
  }

  /** Its credential does not hold any more. */
  async lockOut(till: ContractTill): Promise<void> {
    if (this.isPulled) till.token = createToken()
    else await this.central.registers.revoke(till.name)
  }

  async letIn(till: ContractTill, former: string): Promise<void> {
    if (this.isPulled) till.token = former
    else {
      const { token } = await this.central.registers.rotate(till.name)
      till.link = await this.linkOf(till.name, token)
    }
  }

  private async addPushing(parts: Omit<ConstructorParameters<typeof ContractTill>[0], 'token'>): Promise<ContractTill> {
    const { token } = await this.central.registers.add(parts.name)
    const till = new ContractTill({ ...parts, token })
    till.link = await this.linkOf(parts.name, token)
    return till
  }

  private async addPulled(parts: Omit<ConstructorParameters<typeof ContractTill>[0], 'token'>): Promise<ContractTill> {
    const till = new ContractTill({ ...parts, token: createToken() })
    const server = (await this.options.serve?.(till.door, parts.name)) as ContractServer
    if (server.close) this.closing.push(() => server.close?.())
    this.served.set(new URL(server.url).href, { till, server })
    await this.central.registers.add({ ...parts.name, pull: { url: server.url } })
    till.link = httpClient({
      url: new URL(server.url),
      fetch: server.fetch ?? globalThis.fetch,
      timeoutMs: this.options.timeoutMs,
      maxBytes: MAX_BYTES,
      token: () => till.token,
      names: { peer: 'The register', server: 'till.fetch', asker: 'the suite' },
    })
    return till
  }

  private createCentral(database: CentralDatabase): Central {
    const { timeoutMs } = this.options
    const pull = { token: ({ register }: RegisterName) => this.tokenOf(register), timeoutMs, fetch: this.pullFetch }
    return contractCentral(database, this.location, this.isPulled ? { pull } : {})
  }

  private tokenOf(register: string): string {
    return this.tills.find((till) => till.name.register === register)?.token ?? ''
  }

  /** What central pulls by: the carrier first, then what the host serves a register with. */
  private readonly pullFetch = async (url: string | URL | Request, init?: RequestInit): Promise<Response> => {
    const { till, server } = this.served.get(String(url)) as { till: ContractTill; server: ContractServer }
    const inner: Link = {
      async exchange(message, { signal }) {
        const response = await (server.fetch ?? globalThis.fetch)(url, { ...init, body: message as Uint8Array<ArrayBuffer>, signal })
        // What a stranger answers is told by its content type: it goes on as it came.
        if (response.headers.get('content-type') !== CONTENT_TYPE) throw new Foreign(response)
        return new Uint8Array(await response.arrayBuffer())
      },
    }
    try {
      const answer = await till.carrier.exchange(inner, init?.body as Uint8Array, { signal: init?.signal as AbortSignal })
      return new Response(answer as Uint8Array<ArrayBuffer>, { headers: { 'content-type': CONTENT_TYPE } })
    } catch (thrown) {
      if (thrown instanceof Foreign) return thrown.response
      throw thrown
    }
  }

  private async open(): Promise<void> {
    await createContractTables(this.database)
    await this.central.install()
  }

  private async close(): Promise<void> {
    const doors = [this.door, ...this.tills.map((till) => till.door)]
    for (const door of doors) door.close()
    const all = [...this.tills.map((till) => () => till.close()), () => this.central.stop(), ...this.closing]
    const patienceMs = this.options.timeoutMs + this.options.withinMs
    const ends = await Promise.allSettled(all.map(async (close) => within(patienceMs, 'the end of what a test has opened', Promise.resolve(close()))))
    rmSync(this.folder, { recursive: true, force: true })
    const failed = ends.find((end) => end.status === 'rejected')
    if (failed) throw failed.reason
  }
}

const MAX_BYTES = 67_108_864

class Foreign extends Error {
  readonly response: Response

  constructor(response: Response) {
    super('The answer is not ours')
    this.response = response
  }
}
